"""Questions about who somebody is: TokenReview (whom does this token stand for) and SelfSubjectReview (who am I).

Follows Kubernetes (KEP-3325). A token that is not good is no error: the status says so, and why.
"""

from __future__ import annotations

from barque.api.errors import bad_request
from barque.api.types.authentication_v1 import SelfSubjectReview, TokenReview, UserInfo
from barque.master.apiserver.review import Review
from barque.master.auth.account_keys import TokenError
from barque.master.auth.authentication import Authenticator
from barque.master.auth.identity import User


class TokenReviewing(Review):
    """Answers TokenReview, for components that are shown a bearer token and cannot tell whose it is."""

    async def answer(self, review: TokenReview) -> None:
        if not review.spec.token:
            raise bad_request("token is required for TokenReview in authentication")
        environment, status = self._environment, review.status
        authenticator = Authenticator(environment.tokens, environment.objects, environment.clock)
        # Whatever the caller says of it is not the answer.
        status.authenticated, status.error, status.user, status.audiences = None, "", None, []
        try:
            found = await authenticator.review(review.spec.token, tuple(review.spec.audiences))
        except TokenError as why:
            status.error = f"[invalid bearer token, {why}]"
            return
        status.authenticated, status.user, status.audiences = True, user_info(found.user), found.audiences


class SelfReviewing(Review):
    """Answers SelfSubjectReview: the caller as the cluster knows him, impersonation included."""

    async def answer(self, review: SelfSubjectReview) -> None:
        review.status.userInfo = user_info(self._call.user)


def user_info(user: User) -> UserInfo:
    """A user as the API tells of one."""
    extra = {key: list(values) for key, values in user.extra}
    return UserInfo(username=user.name, uid=user.uid, groups=list(user.groups), extra=extra)
