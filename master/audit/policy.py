"""What is audited, and how much of it: a policy file of kind `Policy`, audit.k8s.io/v1, and its reading.

In: the file's bytes; then one request after the other, as `Attributes`. Out: a `Verdict` each. The first rule that
matches decides; where none does, nothing is written. Pure, but for a bounded memory of verdicts. Follows Kubernetes'
k8s.io/apiserver/pkg/audit/policy and its validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from barque.api import names
from barque.api.errors import FieldError, invalid, not_supported, required
from barque.api.yaml_documents import YamlError, read_documents
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User

API_VERSION = "audit.k8s.io/v1"
NONE, METADATA, REQUEST, REQUEST_RESPONSE = LEVELS = ("None", "Metadata", "Request", "RequestResponse")
RECEIVED, STARTED, COMPLETE, PANIC = STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
# Verdicts that are remembered: callers, verbs and resources are few, and seldom new.
_REMEMBERED = 4096


class PolicyError(ValueError):
    """The policy cannot be used; the message names every faulty field."""


class GroupResources(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Resources of one group; without `resources`, all of it."""

    group: str = ""
    resources: tuple[str, ...] = ()
    resourceNames: tuple[str, ...] = ()


class Rule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One rule; what is left out matches everything."""

    level: str = ""
    users: tuple[str, ...] = ()
    userGroups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[GroupResources, ...] = ()
    namespaces: tuple[str, ...] = ()
    nonResourceURLs: tuple[str, ...] = ()
    omitStages: tuple[str, ...] = ()
    omitManagedFields: bool | None = None


class _Metadata(msgspec.Struct):
    """Whatever metadata the file has: nothing of it means anything here."""


class Policy(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The file. `omitStages` holds for every rule, `omitManagedFields` for those that do not say themselves."""

    apiVersion: str = API_VERSION
    kind: str = "Policy"
    metadata: _Metadata | None = None
    rules: tuple[Rule, ...] = ()
    omitStages: tuple[str, ...] = ()
    omitManagedFields: bool = False


class Verdict(NamedTuple):
    """What is written of a request: `level` is one of `LEVELS`."""

    level: str
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False

    @property
    def with_request(self) -> bool:
        return self.level in (REQUEST, REQUEST_RESPONSE)

    @property
    def with_response(self) -> bool:
        return self.level == REQUEST_RESPONSE


# Where a log is wanted and no policy is given: who asked for what and what came of it, once for each request.
METADATA_OF_ALL = Policy(rules=(Rule(level=METADATA),), omitStages=(RECEIVED,))


def read_policy(text: bytes) -> Policy:
    """The policy of a file (YAML or JSON). Raises `PolicyError` naming every field that is wrong."""
    try:
        documents = list(read_documents(text))
    except YamlError as error:
        raise PolicyError(str(error)) from error
    if len(documents) != 1:
        raise PolicyError(f"one document of kind Policy is wanted, there are {len(documents)}")
    document = documents[0]
    if document.duplicates:
        raise PolicyError(", ".join(document.duplicates))
    _check_kind(document.data)
    try:
        policy = msgspec.convert(_without_nulls(document.data), Policy)
    except msgspec.ValidationError as error:
        raise PolicyError(_placed(str(error))) from error
    faults = check_policy(policy)
    if faults:
        raise PolicyError(", ".join(map(str, faults)))
    return policy


def _check_kind(data: Any) -> None:
    """Raises `PolicyError` for a document that is something else altogether."""
    given = (data.get("apiVersion"), data.get("kind")) if isinstance(data, dict) else (None, None)
    if given != (API_VERSION, "Policy"):
        said = "" if given == (None, None) else f", this is {given[1]} of {given[0]}"
        raise PolicyError(f"a Policy of {API_VERSION} is wanted{said}")


def _without_nulls(data: Any) -> Any:
    """Null is as if the field were not there."""
    if isinstance(data, dict):
        return {key: _without_nulls(value) for key, value in data.items() if value is not None}
    return [_without_nulls(value) for value in data] if isinstance(data, list) else data


def _placed(said: str) -> str:
    """msgspec's sentence with the field in front, as Kubernetes has it."""
    what, _, place = said.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `([^`]*)`", what)
    if unknown:
        return f'unknown field "{f"{path}.{unknown[1]}" if path else unknown[1]}"'
    return f"{path}: Invalid value: {what}" if path else what


def check_policy(policy: Policy) -> list[FieldError]:
    """What is wrong with a policy, in Kubernetes' words."""
    faults = list(_check_stages(policy.omitStages, "omitStages"))
    if not policy.rules:
        faults.append(required("rules", "a policy without rules audits nothing"))
    for index, rule in enumerate(policy.rules):
        faults += _check_rule(rule, f"rules[{index}]")
    return faults


def _check_rule(rule: Rule, path: str) -> Iterator[FieldError]:
    if not rule.level:
        yield required(f"{path}.level")
    elif rule.level not in LEVELS:
        yield not_supported(f"{path}.level", rule.level, list(LEVELS))
    for index, url in enumerate(rule.nonResourceURLs):
        at = f"{path}.nonResourceURLs[{index}]"
        if url != "*" and not url.startswith("/"):
            yield invalid(at, url, "non-resource URL rules must begin with a '/' character")
        if "*" in url[:-1]:
            yield invalid(at, url, "non-resource URL wildcards '*' must be the final character of the rule")
    for index, resources in enumerate(rule.resources):
        yield from _check_resources(resources, f"{path}.resources[{index}]")
    yield from _check_stages(rule.omitStages, f"{path}.omitStages")
    if rule.nonResourceURLs and (rule.resources or rule.namespaces):
        why = "rules cannot apply to both regular resources and non-resource URLs"
        yield invalid(f"{path}.nonResourceURLs", rule.nonResourceURLs, why)


def _check_resources(resources: GroupResources, path: str) -> Iterator[FieldError]:
    faults = names.dns1123_subdomain(resources.group) if resources.group else []
    if faults:
        yield invalid(f"{path}.group", resources.group, ",".join(faults))
    if resources.resourceNames and not resources.resources:
        yield invalid(
            f"{path}.resourceNames", resources.resourceNames, "using resourceNames requires at least one resource"
        )


def _check_stages(stages: Sequence[str], path: str) -> Iterator[FieldError]:
    for index, stage in enumerate(stages):
        if stage not in STAGES:
            yield invalid(f"{path}[{index}]", stage, f"allowed stages are {','.join(STAGES)}")


class Evaluation:
    """A policy at work. `verdict` gives what is written of a request."""

    def __init__(self, policy: Policy) -> None:
        self._rules = tuple(
            (rule, Verdict(rule.level, frozenset((*policy.omitStages, *rule.omitStages)), _omits(rule, policy)))
            for rule in policy.rules
        )
        self._unmatched = Verdict(NONE)
        # What no rule looks at is left out of the question, so that few questions are asked.
        self._by_name = any(resources.resourceNames for rule in policy.rules for resources in rule.resources)
        self._by_namespace = any(rule.namespaces for rule in policy.rules)
        self._by_path = any(rule.nonResourceURLs for rule in policy.rules)
        self._decide = lru_cache(_REMEMBERED)(self._find)

    def verdict(self, request: Attributes) -> Verdict:
        """The verdict on a request by the user who was authenticated, whoever is impersonated."""
        return self._decide(
            request.user,
            request.verb,
            request.group,
            request.resource,
            request.subresource,
            request.namespace if self._by_namespace else "",
            request.name if self._by_name else "",
            (request.path if self._by_path else "/") if request.path else "",
        )

    def _find(
        self, user: User, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str, path: str
    ) -> Verdict:
        request = Attributes(user, verb, group, "", resource, subresource, namespace, name, path)
        return next((verdict for rule, verdict in self._rules if _matches(rule, request)), self._unmatched)


def _omits(rule: Rule, policy: Policy) -> bool:
    return policy.omitManagedFields if rule.omitManagedFields is None else rule.omitManagedFields


def _matches(rule: Rule, request: Attributes) -> bool:
    user = request.user
    if rule.users and user.name not in rule.users:
        return False
    if rule.userGroups and not set(rule.userGroups).intersection(user.groups):
        return False
    if rule.verbs and request.verb not in rule.verbs:
        return False
    if rule.namespaces or rule.resources:
        return not request.path and _matches_resource(rule, request)
    if rule.nonResourceURLs:
        return any(_matches_path(url, request.path) for url in rule.nonResourceURLs) if request.path else False
    return True


def _matches_resource(rule: Rule, request: Attributes) -> bool:
    """What has no namespace is in the namespace ""."""
    if rule.namespaces and request.namespace not in rule.namespaces:
        return False
    return not rule.resources or any(_has(resources, request) for resources in rule.resources)


def _has(resources: GroupResources, request: Attributes) -> bool:
    if resources.group != request.group:
        return False
    if not resources.resources:
        return True
    if resources.resourceNames and request.name not in resources.resourceNames:
        return False
    plural, subresource = request.resource, request.subresource
    meant = {"*", f"{plural}/{subresource}" if subresource else plural, f"{plural}/*"}
    if subresource:
        meant.add(f"*/{subresource}")
    return not meant.isdisjoint(resources.resources)


def _matches_path(url: str, path: str) -> bool:
    return url in ("*", path) or (url.endswith("*") and path.startswith(url.rstrip("*")))
