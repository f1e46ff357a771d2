"""The kinds that are questions (`Resource.storage` "review"), and who answers each."""

from __future__ import annotations

from collections.abc import Callable

from barque.master.apiserver.access_reviews import (
    LocalSubjectReviewing,
    SelfAccessReviewing,
    SelfRulesReviewing,
    SubjectReviewing,
)
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.identity_reviews import SelfReviewing, TokenReviewing
from barque.master.apiserver.proposals import Writer

REVIEWS: dict[str, Callable[[Environment, Call, bytes], Writer]] = {
    "LocalSubjectAccessReview": LocalSubjectReviewing,
    "SelfSubjectAccessReview": SelfAccessReviewing,
    "SelfSubjectReview": SelfReviewing,
    "SelfSubjectRulesReview": SelfRulesReviewing,
    "SubjectAccessReview": SubjectReviewing,
    "TokenReview": TokenReviewing,
}
