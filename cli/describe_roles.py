"""The `describe` pages of roles and bindings, in kubectl's layout. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from barque.cli.description import Page, heading

_RULE = ("Resources", "Non-Resource URLs", "Resource Names", "Verbs")


def describe_role(page: Page, role: Any, _: Sequence[Any]) -> None:
    """A role with its rules, those of one resource put together."""
    heading(page, role, namespaced=False)
    verbs: dict[tuple[str, str, str], dict[str, None]] = {}
    for rule in role.rules:
        names = _listed(rule.resourceNames)
        for group in rule.apiGroups:
            for resource in rule.resources:
                place = (f"{resource}.{group}" if group else resource, "[]", names)
                verbs.setdefault(place, {}).update(dict.fromkeys(rule.verbs))
        for path in rule.nonResourceURLs:
            verbs.setdefault(("", f"[{path}]", "[]"), {}).update(dict.fromkeys(rule.verbs))
    rows = [[*place, _listed(of_place)] for place, of_place in sorted(verbs.items())]
    page.table(0, "PolicyRule", _RULE, rows, ruled=True)


def describe_binding(page: Page, binding: Any, _: Sequence[Any]) -> None:
    """A binding: what it gives, and to whom."""
    heading(page, binding, namespaced=False)
    page.line(0, "Role:")
    page.field(1, "Kind", binding.roleRef.kind if binding.roleRef is not None else "")
    page.field(1, "Name", binding.roleRef.name if binding.roleRef is not None else "")
    rows = [[subject.kind, subject.name, subject.namespace] for subject in binding.subjects]
    page.table(0, "Subjects", ("Kind", "Name", "Namespace"), rows, ruled=True)


def _listed(words: Iterable[str]) -> str:
    return f"[{' '.join(words)}]"
