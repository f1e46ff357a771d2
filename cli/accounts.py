"""Tokens of service accounts from the command's side: what is asked for, in kubectl's words, and the asking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from barque.cli.arguments import parse_duration
from barque.cli.output import CliError

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


def token_request(audiences: Sequence[str], duration: str, bound: tuple[str, str, str]) -> dict[str, Any]:
    """The TokenRequest; `bound` is kind, name and uid of what the token is to end with. Raises `CliError`."""
    kind, name, uid = bound
    spec: dict[str, Any] = {"audiences": list(audiences)} if audiences else {}
    if duration:
        life_s = parse_duration(duration)
        if life_s != int(life_s):
            raise CliError("--duration cannot be expressed in units less than seconds")
        spec["expirationSeconds"] = int(life_s)
    if kind and not name:
        raise CliError("--bound-object-name is required if --bound-object-kind is provided")
    if not kind and (name or uid):
        raise CliError("--bound-object-kind is required if --bound-object-name or --bound-object-uid is provided")
    if kind:
        reference = {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}
        spec["boundObjectRef"] = {key: value for key, value in reference.items() if value}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


async def request_token(
    session: Session, connection: Connection, account: str, request: dict[str, Any]
) -> dict[str, Any]:
    """The answered TokenRequest. Raises `ApiError`."""
    import msgspec

    from barque.api import resources
    from barque.cli.writing import decoded
    from barque.client.verbs import Target

    target = Target(resources.by_word("serviceaccounts"), session.namespace, account, "token")
    return await decoded(session, connection.verbs.create(target, msgspec.json.encode(request)))
