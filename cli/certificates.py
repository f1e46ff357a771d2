"""What `barque certificate` and `describe` do with requests for certificates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.api import certificate_requests, resources
from barque.api.columns.certificates import requested_duration
from barque.api.errors import ApiError
from barque.cli.choosing import Found, find
from barque.cli.description import Page, annotation_field, moment
from barque.cli.fetching import Asked
from barque.cli.output import CliError
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing
from barque.client.verbs import Selection

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

REQUESTS = resources.by_word("certificatesigningrequests")
_WORDS = {REQUESTS.plural, REQUESTS.singular, *REQUESTS.short_names}
_OTHER = {"Approved": "Denied", "Denied": "Approved"}
_VERBS = {"Approved": "approve", "Denied": "deny"}
# A decision on a request that has changed meanwhile is written anew this often.
_ATTEMPTS = 5


def decide(session: Session, decision: str, words: Sequence[str], given: dict[str, Any]) -> None:
    """Give requests the condition `Approved` or `Denied`; exits with 1 where one was refused."""
    force, selector = given.pop("force"), given.pop("selector")
    writing = read_writing(given)
    asked = _asked(_VERBS[decision], words, selector)

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)
        results = Results(session.screen, writing)

        async def one_of_them(request: Found) -> None:
            after = await _decide_one(session, connection, request, decision, writing, force=force)
            results.tell(request.target.resource, request.target.name, decision.lower(), after)

        refused = await one_by_one(session, found, one_of_them, doing=f"{_VERBS[decision]}ing")
        results.finish()
        return failed or refused

    if session.run(run):
        click.get_current_context().exit(1)


def _asked(verb: str, words: Sequence[str], selector: str) -> list[Asked]:
    """The requests meant by `jane`, `csr/jane`, `csr jane` or -l. Raises `CliError`."""
    if words and words[0].lower() in _WORDS:
        words = words[1:]
    names = [word.partition("/")[2] if word.partition("/")[0].lower() in _WORDS else word for word in words]
    if names and selector:
        raise CliError("cannot specify both a name and a --selector option")
    if not names and not selector:
        raise CliError(f"give the name of a request, as in `barque certificate {verb} jane`, or -l LABELS")
    return [Asked(REQUESTS, "", tuple(dict.fromkeys(names)), Selection(selector))]


async def _decide_one(
    session: Session, connection: Connection, request: Found, decision: str, writing: Writing, *, force: bool
) -> dict[str, Any]:
    """The request as it is after the decision; one that was decided so before stays as it is."""
    live, target = request.live, request.target
    for attempt in range(_ATTEMPTS):
        kinds = [condition["type"] for condition in live.get("status", {}).get("conditions", [])]
        if _OTHER[decision] in kinds:
            raise CliError(f'certificate signing request "{target.name}" is already {_OTHER[decision].lower()}')
        if (decision in kinds and not force) or not writing.sends:
            return live
        body = msgspec.json.encode(_with_decision(live, decision))
        try:
            approval = target._replace(subresource="approval")
            return await decoded(session, connection.verbs.update(approval, body, writing.options()))
        except ApiError as error:
            if error.reason != "Conflict" or attempt == _ATTEMPTS - 1:
                raise
            live = await decoded(session, connection.verbs.get(target))
    raise AssertionError("the last attempt returns or raises")


def _with_decision(live: dict[str, Any], decision: str) -> dict[str, Any]:
    verb = _VERBS[decision]
    condition = {
        "type": decision,
        "status": "True",
        "reason": f"Barque{verb.capitalize()}",
        "message": f"This CSR was {decision.lower()} by barque certificate {verb}.",
    }
    status = live.get("status", {})
    others = [c for c in status.get("conditions", []) if c["type"] != decision]
    return {**live, "status": {**status, "conditions": [*others, condition]}}


def describe_request(page: Page, request: Any, _: Sequence[Any] = ()) -> None:
    """A request for a certificate, and whom that would be for."""
    meta, spec = request.metadata, request.spec
    page.field(0, "Name", meta.name)
    page.pairs(0, "Labels", meta.labels)
    annotation_field(page, meta.annotations)
    page.field(0, "CreationTimestamp", moment(meta.creationTimestamp))
    page.field(0, "Requesting User", spec.username)
    page.field(0, "Signer", spec.signerName)
    if spec.expirationSeconds is not None:
        page.field(0, "Requested Duration", requested_duration(request))
    page.field(0, "Status", certificate_requests.status_in_words(request))
    try:
        csr = certificate_requests.parse(spec.request)
    except ValueError as error:
        page.field(0, "Subject", f"<cannot be read: {error}>")
        return
    names = certificate_requests.names_in(csr)
    page.line(0, "Subject:")
    page.field(1, "Common Name", names.common_name)
    page.field(1, "Serial Number", "")
    if names.organizations:
        page.several(1, "Organization", names.organizations)
    others = (
        ("DNS Names", names.dns), ("Email Addresses", names.emails), ("URIs", names.uris),
        ("IP Addresses", names.addresses),
    )  # fmt: skip
    if any(values for _, values in others):
        page.line(0, "Subject Alternative Names:")
        for title, values in others:
            if values:
                page.several(1, title, values)
