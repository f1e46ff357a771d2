"""How large each ReplicaSet of a Deployment should be, without I/O: rolling update, proportional scaling, percentages.

Follows Kubernetes' deployment controller. Sizes are numbers of pods; `Sizes` maps a ReplicaSet's name to its wished
`spec.replicas`. The promise of a rolling update: never more than `desired + max_surge` pods wished, never fewer than
`desired - max_unavailable` available by our doing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from barque.api import intorstring
from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.types.base import IntOrString
from barque.master.controllers import revisions

Sizes = dict[str, int]


def desired(deployment: Deployment) -> int:
    return 1 if deployment.spec.replicas is None else deployment.spec.replicas


def is_rolling(deployment: Deployment) -> bool:
    strategy = deployment.spec.strategy
    return strategy is None or strategy.type in ("", "RollingUpdate")


def size(rs: ReplicaSet) -> int:
    return 1 if rs.spec.replicas is None else rs.spec.replicas


def available(rs: ReplicaSet) -> int:
    """Pods of this set to count on. Where the status has not yet seen a smaller spec, the smaller number counts."""
    return min(rs.status.availableReplicas or 0, size(rs))


def resolve(value: IntOrString | None, total: int, *, round_up: bool) -> int:
    """An absolute number, or a percentage of `total`."""
    return 0 if value is None else intorstring.scaled(value, total, round_up=round_up)


def fenceposts(deployment: Deployment) -> tuple[int, int]:
    """(max surge, max unavailable): surge rounded up, unavailable down; both zero would never move, so one may go."""
    if not is_rolling(deployment):
        return 0, 0
    total = desired(deployment)
    limits = deployment.spec.strategy.rollingUpdate if deployment.spec.strategy else None
    surge = resolve(limits.maxSurge if limits else "25%", total, round_up=True)
    unavailable = resolve(limits.maxUnavailable if limits else "25%", total, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def max_surge(deployment: Deployment) -> int:
    return fenceposts(deployment)[0]


def max_unavailable(deployment: Deployment) -> int:
    if not is_rolling(deployment) or desired(deployment) == 0:
        return 0
    return min(fenceposts(deployment)[1], desired(deployment))


def new_set_size(deployment: Deployment, current: int, total: int) -> int:
    """The new set's next size, where it has `current` and all sets together `total`."""
    wish = desired(deployment)
    if not is_rolling(deployment):
        return wish
    room = wish + max_surge(deployment) - total
    if room <= 0:
        return current
    return current + min(room, wish - current)


def plan_rolling_update(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> Sizes:
    """The next step of a rolling update: grow the new set if it may grow, else shrink old ones; {} for no move."""
    grown = _new_set_target(deployment, new, old)
    if grown != size(new):
        return {new.metadata.name: grown}
    return _plan_old_sets(deployment, new, old)


def _new_set_target(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> int:
    if size(new) >= desired(deployment):
        return desired(deployment)
    return new_set_size(deployment, size(new), size(new) + sum(map(size, old)))


def _plan_old_sets(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> Sizes:
    total = sum(map(size, old))
    if total == 0:
        return {}
    fewest_available = desired(deployment) - max_unavailable(deployment)
    new_unavailable = size(new) - available(new)
    removable = total + size(new) - fewest_available - new_unavailable
    if removable <= 0:
        return {}
    by_age = sorted(old, key=revisions.age_order)
    sizes: Sizes = {}
    # Pods that serve nobody go first: removing them cannot hurt, and it frees room for new ones.
    for rs in by_age:
        spare = min(size(rs) - available(rs), removable)
        if spare > 0:
            sizes[rs.metadata.name] = size(rs) - spare
            removable -= spare
    surplus = min(available(new) + sum(map(available, old)) - fewest_available, removable)
    for rs in by_age:
        now = sizes.get(rs.metadata.name, size(rs))
        gone = min(now, surplus)
        if gone > 0:
            sizes[rs.metadata.name] = now - gone
            surplus -= gone
    return sizes


def is_scaling(deployment: Deployment, sets: Sequence[ReplicaSet]) -> bool:
    """Whether the Deployment's size has changed since the active sets were last sized."""
    noted = (revisions.number_in(rs, revisions.DESIRED_REPLICAS) for rs in sets if size(rs) > 0)
    return any(n is not None and n != desired(deployment) for n in noted)


def plan_scaling(deployment: Deployment, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> Sizes:
    """Resize without rolling: the only active set gets it all; several share in proportion to their sizes."""
    active = [rs for rs in (*old, *([new] if new else [])) if size(rs) > 0]
    if len(active) <= 1:
        only = active[0] if active else new or max(old, key=revisions.age_order, default=None)
        return {} if only is None else {only.metadata.name: desired(deployment)}
    if new is not None and _is_saturated(deployment, new):
        return {rs.metadata.name: 0 for rs in old if size(rs) > 0}
    if not is_rolling(deployment):
        return {}
    return _plan_proportions(deployment, active)


def _is_saturated(deployment: Deployment, new: ReplicaSet) -> bool:
    wish = desired(deployment)
    noted = revisions.number_in(new, revisions.DESIRED_REPLICAS)
    return size(new) == wish and noted == wish and (new.status.availableReplicas or 0) == wish


def _plan_proportions(deployment: Deployment, active: Sequence[ReplicaSet]) -> Sizes:
    wish = desired(deployment)
    allowed = wish + max_surge(deployment) if wish > 0 else 0
    to_add = allowed - sum(map(size, active))
    # The largest first; of equals the newest when growing, the oldest when shrinking.
    ordered = sorted(active, key=revisions.age_order, reverse=to_add > 0)
    ordered.sort(key=size, reverse=True)
    sizes, added = {}, 0
    for rs in ordered:
        share = _proportion(deployment, rs, to_add, added) if to_add else 0
        sizes[rs.metadata.name] = size(rs) + share
        added += share
    largest = ordered[0].metadata.name
    sizes[largest] = max(sizes[largest] + to_add - added, 0)
    return sizes


def _proportion(deployment: Deployment, rs: ReplicaSet, to_add: int, added: int) -> int:
    if size(rs) == 0 or to_add == added:
        return 0
    fraction, left = _fraction(deployment, rs), to_add - added
    return min(fraction, left) if to_add > 0 else max(fraction, left)


def _fraction(deployment: Deployment, rs: ReplicaSet) -> int:
    """By how much this set would grow if it kept its share of the whole."""
    if desired(deployment) == 0:
        return -size(rs)
    most_before = revisions.number_in(rs, revisions.MAX_REPLICAS) or deployment.status.replicas or 0
    if most_before == 0:
        return 0
    most_now = desired(deployment) + max_surge(deployment)
    return math.floor(size(rs) * most_now / most_before + 0.5) - size(rs)
