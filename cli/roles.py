"""The roles and bindings that `create role` and its kin make of their options, as kubectl makes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barque.api import resources
from barque.api.errors import ApiError
from barque.cli.output import CliError

GROUP = "rbac.authorization.k8s.io"
_API_VERSION = f"{GROUP}/v1"


def role(kind: str, name: str, verbs: Sequence[str], words: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """A Role or ClusterRole; `words` are `TYPE[.GROUP][/SUBRESOURCE]`. Raises `CliError`."""
    if not verbs:
        raise CliError("at least one verb must be specified")
    if not words:
        raise CliError("at least one resource must be specified")
    by_group: dict[str, list[str]] = {}
    for word in _split(words):
        group, plural = _resource(word)
        by_group.setdefault(group, []).append(plural)
    listed = {"resourceNames": _split(names)} if names else {}
    rules = [
        {"verbs": _verbs(verbs), "apiGroups": [group], "resources": list(dict.fromkeys(plurals)), **listed}
        for group, plurals in by_group.items()
    ]
    return {"apiVersion": _API_VERSION, "kind": kind, "metadata": {"name": name}, "rules": rules}


def path_role(name: str, verbs: Sequence[str], paths: Sequence[str]) -> dict[str, Any]:
    """A ClusterRole of paths."""
    rule = {"verbs": _verbs(verbs), "nonResourceURLs": _split(paths)}
    return {"apiVersion": _API_VERSION, "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]}


def aggregated_role(name: str, labels: str) -> dict[str, Any]:
    """A ClusterRole that is put together of those with these labels. Raises `CliError`."""
    pairs = [pair.partition("=") for pair in labels.split(",")]
    if any(not key or not equals for key, equals, _ in pairs):
        raise CliError(f"invalid aggregation rule: {labels}, expected KEY=VALUE")
    selectors = [{"matchLabels": {key: value for key, _, value in pairs}}]
    return {
        "apiVersion": _API_VERSION,
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "aggregationRule": {"clusterRoleSelectors": selectors},
        "rules": [],
    }


def binding(
    kind: str, name: str, of: tuple[str, str], users: Sequence[str], groups: Sequence[str], accounts: Sequence[str]
) -> dict[str, Any]:
    """A RoleBinding or ClusterRoleBinding of the role `of` (kind and name). Raises `CliError`."""
    subjects: list[dict[str, str]] = [{"kind": "User", "apiGroup": GROUP, "name": user} for user in users]
    subjects += [{"kind": "Group", "apiGroup": GROUP, "name": group} for group in groups]
    for account in accounts:
        namespace, colon, account_name = account.partition(":")
        if not (colon and namespace and account_name) or ":" in account_name:
            raise CliError("serviceaccount must be <namespace>:<name>")
        subjects.append({"kind": "ServiceAccount", "name": account_name, "namespace": namespace})
    reference = {"apiGroup": GROUP, "kind": of[0], "name": of[1]}
    made = {"apiVersion": _API_VERSION, "kind": kind, "metadata": {"name": name}, "roleRef": reference}
    return made | ({"subjects": subjects} if subjects else {})


def _split(words: Sequence[str]) -> list[str]:
    return [part for word in words for part in word.split(",") if part]


def _verbs(verbs: Sequence[str]) -> list[str]:
    distinct = list(dict.fromkeys(_split(verbs)))
    return ["*"] if "*" in distinct else distinct


def _resource(word: str) -> tuple[str, str]:
    """API group and resource of `deployments.apps/scale`."""
    named, slash, subresource = word.partition("/")
    if named == "*":
        return "*" if not slash else "", word
    try:
        found = resources.by_word(named)
    except ApiError as error:
        raise CliError(f"can't find the resource: {error.message}") from None
    return found.group, f"{found.plural}{slash}{subresource}"
