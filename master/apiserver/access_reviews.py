"""Questions about what somebody may do: SubjectAccessReview and its kin, and SelfSubjectRulesReview.

Follows Kubernetes: what is asked about need not be served, and selectors that cannot be read narrow nothing, so that
they never widen an answer.
"""

from __future__ import annotations

from typing import Any

from barque.api.errors import FieldError, bad_request, invalid, invalid_object
from barque.api.policyrules import Rule
from barque.api.types.authorization_v1 import (
    FieldSelectorAttributes,
    LabelSelectorAttributes,
    LocalSubjectAccessReview,
    NonResourceAttributes,
    NonResourceRule,
    ResourceAttributes,
    ResourceRule,
    SelfSubjectAccessReview,
    SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
    SubjectRulesReviewStatus,
)
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.verbs import Selection
from barque.master.apiserver.review import Review
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User

_GROUP = "authorization.k8s.io"
_OPERATORS = {"In": "=", "NotIn": "!="}


class _AccessReviewing(Review):
    """What the four have in common: faults are told, the question is put, the status filled in."""

    async def _decide(self, review: Any, user: User, faults: list[FieldError]) -> None:
        if faults:
            raise invalid_object(type(review).__name__, _GROUP, "", faults)
        decision = await self._environment.authorizer.decide_current(_attributes(user, review.spec))
        review.status = SubjectAccessReviewStatus(
            allowed=decision.allowed, denied=decision.denied or None, reason=decision.reason
        )


class SelfAccessReviewing(_AccessReviewing):
    """Answers SelfSubjectAccessReview: may the caller do this."""

    async def answer(self, review: SelfSubjectAccessReview) -> None:
        await self._decide(review, self._call.user, _check_one(review.spec))


class SubjectReviewing(_AccessReviewing):
    """Answers SubjectAccessReview: may somebody do this."""

    async def answer(self, review: SubjectAccessReview) -> None:
        await self._decide(review, _user(review.spec), _check_subject(review.spec))


class LocalSubjectReviewing(_AccessReviewing):
    """Answers LocalSubjectAccessReview: may somebody do this in the review's own namespace."""

    async def answer(self, review: LocalSubjectAccessReview) -> None:
        await self._decide(review, _user(review.spec), _check_local(review))


class SelfRulesReviewing(Review):
    """Answers SelfSubjectRulesReview: all that the caller may do in a namespace."""

    async def answer(self, review: SelfSubjectRulesReview) -> None:
        namespace = review.spec.namespace
        if not namespace:
            raise bad_request("no namespace on request")
        await self._environment.objects.current()
        rules, faults, incomplete = self._environment.authorizer.rules(self._call.user, namespace)
        review.status = SubjectRulesReviewStatus(
            resourceRules=[_resource_rule(rule) for rule in rules if not rule.paths],
            nonResourceRules=[
                NonResourceRule(verbs=sorted(rule.verbs), nonResourceURLs=list(rule.paths))
                for rule in rules
                if rule.paths
            ],
            incomplete=incomplete,
            evaluationError=", ".join(dict.fromkeys(faults)),
        )


def _resource_rule(rule: Rule) -> ResourceRule:
    return ResourceRule(
        verbs=sorted(rule.verbs),
        apiGroups=sorted(rule.groups),
        resources=sorted(rule.resources),
        resourceNames=sorted(rule.names),
    )


def _user(spec: SubjectAccessReviewSpec) -> User:
    extra = tuple((key, tuple(values)) for key, values in spec.extra.items())
    return User(spec.user, tuple(spec.groups), spec.uid, extra)


def _attributes(user: User, spec: SelfSubjectAccessReviewSpec | SubjectAccessReviewSpec) -> Attributes:
    path, of_resource = spec.nonResourceAttributes, spec.resourceAttributes
    if of_resource is None:
        path = path or NonResourceAttributes()
        return Attributes(user, path.verb, path=path.path)
    return Attributes(
        user, of_resource.verb, of_resource.group, of_resource.version, of_resource.resource, of_resource.subresource,
        of_resource.namespace, of_resource.name, selection=_selection(of_resource),
    )  # fmt: skip


def _selection(asked: ResourceAttributes) -> Selection:
    return Selection(_selector(asked.labelSelector), _selector(asked.fieldSelector))


def _selector(asked: FieldSelectorAttributes | LabelSelectorAttributes | None) -> str:
    """The selector as it stands in a request; requirements that have no such form select nothing out."""
    if asked is None:
        return ""
    if asked.rawSelector:
        return asked.rawSelector
    return ",".join(
        f"{each.key}{_OPERATORS[each.operator]}{each.values[0]}"
        for each in asked.requirements
        if each.operator in _OPERATORS and len(each.values) == 1
    )


def _check_one(spec: SelfSubjectAccessReviewSpec | SubjectAccessReviewSpec) -> list[FieldError]:
    path, of_resource = spec.nonResourceAttributes, spec.resourceAttributes
    if path is not None and of_resource is not None:
        why = "cannot be specified in combination with resourceAttributes"
        return [invalid("spec.nonResourceAttributes", path, why)]
    if path is None and of_resource is None:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [invalid("spec.resourceAttributes", None, why)]
    return [] if of_resource is None else _check_selectors(of_resource)


def _check_selectors(asked: ResourceAttributes) -> list[FieldError]:
    faults = []
    for name, selector in (("fieldSelector", asked.fieldSelector), ("labelSelector", asked.labelSelector)):
        if selector is not None and selector.rawSelector and selector.requirements:
            at = f"spec.resourceAttributes.{name}"
            why = "may not specified at the same time as requirements"
            faults.append(invalid(f"{at}.rawSelector", selector.rawSelector, why))
    return faults


def _check_subject(spec: SubjectAccessReviewSpec) -> list[FieldError]:
    faults = _check_one(spec)
    if not spec.user and not spec.groups:
        faults.append(invalid("spec.user", spec.user, "at least one of user or group must be specified"))
    return faults


def _check_local(review: LocalSubjectAccessReview) -> list[FieldError]:
    spec, meta = review.spec, review.metadata
    faults = _check_subject(spec)
    if (meta.name, meta.labels, meta.annotations) != ("", {}, {}):
        faults.append(invalid("metadata", ObjectMeta(name=meta.name, namespace=meta.namespace), "must be empty"))
    asked = spec.resourceAttributes
    if asked is not None and asked.namespace != meta.namespace:
        why = "must match metadata.namespace"
        faults.append(invalid("spec.resourceAttributes.namespace", asked.namespace, why))
    if spec.nonResourceAttributes is not None:
        why = "disallowed on this kind of request"
        faults.append(invalid("spec.nonResourceAttributes", spec.nonResourceAttributes, why))
    return faults
