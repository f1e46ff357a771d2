"""What one may do, from the command's side: the reviews that `auth can-i` sends, and how rules are shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from barque.api import resources
from barque.api.errors import ApiError
from barque.cli.output import CliError

GROUP = "authorization.k8s.io/v1"
HEADERS = ("Resources", "Non-Resource URLs", "Resource Names", "Verbs")


class Question(NamedTuple):
    """`remark` is what the user is told besides the answer."""

    attributes: dict[str, dict[str, str]]
    remark: str = ""


def question(verb: str, what: str, namespace: str, subresource: str) -> Question:
    """The attributes of `VERB TYPE[/NAME]` or `VERB /PATH`. `namespace` is "" for all of them. Raises `CliError`."""
    if what.startswith("/"):
        if subresource:
            raise CliError("--subresource can not be used with NonResourceURL")
        return Question({"nonResourceAttributes": {"verb": verb, "path": what}})
    word, _, name = what.partition("/")
    asked = {"verb": verb, "resource": word, "subresource": subresource, "name": name, "namespace": namespace}
    remark = ""
    if word != "*":
        try:
            found = resources.by_word(word)
            asked |= {"resource": found.plural, "group": found.group}
            if not found.namespaced and namespace:
                asked["namespace"] = ""
                group = f" in group '{found.group}'" if found.group else ""
                remark = f"Warning: resource '{found.plural}' is not namespace scoped{group}\n"
        except ApiError:
            asked["resource"], _, asked["group"] = word.partition(".")
            remark = f"Warning: the server doesn't have a resource type '{word}'\n"
    return Question({"resourceAttributes": {key: value for key, value in asked.items() if value}}, remark)


def review(attributes: dict[str, Any], user: str, groups: Sequence[str]) -> dict[str, Any]:
    """The review of the caller, or of somebody else."""
    if user or groups:
        spec = {**attributes, "user": user, "groups": list(groups)}
        return {"apiVersion": GROUP, "kind": "SubjectAccessReview", "spec": spec}
    return {"apiVersion": GROUP, "kind": "SelfSubjectAccessReview", "spec": attributes}


def answer(status: dict[str, Any]) -> str:
    """The answer in a line, as kubectl words it."""
    if status["allowed"]:
        return "yes"
    told = [status.get("reason", ""), status.get("evaluationError", "")]
    return " - ".join(["no", *filter(None, told)])


def rows(status: dict[str, Any]) -> list[list[str]]:
    """The rules of a SelfSubjectRulesReview as a table; rules of one resource put together."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for rule in status["resourceRules"]:
        for resource in _named(rule):
            place = (resource, "[]", _listed(rule.get("resourceNames", ())))
            verbs.setdefault(place, []).extend(rule["verbs"])
    for rule in status["nonResourceRules"]:
        for path in rule.get("nonResourceURLs", ()):
            verbs.setdefault(("", f"[{path}]", "[]"), []).extend(rule["verbs"])
    return [[*place, _listed(dict.fromkeys(of_place))] for place, of_place in sorted(verbs.items(), key=_order)]


def _order(row: tuple[tuple[str, str, str], list[str]]) -> tuple[bool, str, str, str]:
    """Resources first."""
    (resource, path, names), _ = row
    return not resource, resource, path, names


def _named(rule: dict[str, Any]) -> Iterable[str]:
    for group in rule.get("apiGroups", ()):
        for resource in rule.get("resources", ()):
            yield f"{resource}.{group}" if group else resource


def _listed(words: Iterable[str]) -> str:
    return f"[{' '.join(words)}]"
