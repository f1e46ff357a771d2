"""A deployment's rollout in words, and the revisions it may go back to. Pure.

Revisions are the deployment's replica sets, numbered by the controller in `deployment.kubernetes.io/revision`; going
back means giving the deployment the pod template of an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from barque.cli.output import CliError

REVISION = "deployment.kubernetes.io/revision"
CHANGE_CAUSE = "kubernetes.io/change-cause"
HASH_LABEL = "pod-template-hash"


class Progress(NamedTuple):
    """How far a rollout is, in kubectl's sentences; `failed` where it will not get further."""

    sentence: str
    done: bool
    failed: bool = False


def progress_of(deployment: Any, revision: int = 0) -> Progress:
    """How far the rollout is. The counts are believed only once the controller has seen the newest spec."""
    name, spec, status = deployment.metadata.name, deployment.spec, deployment.status
    if revision and deployment.metadata.annotations.get(REVISION) != str(revision):
        return Progress(f"desired revision ({revision}) is different from the running revision", False, failed=True)
    if (deployment.metadata.generation or 0) > (status.observedGeneration or 0):
        return Progress("Waiting for deployment spec update to be observed...", False)
    if any(c.type == "Progressing" and c.reason == "ProgressDeadlineExceeded" for c in status.conditions):
        return Progress(f'deployment "{name}" exceeded its progress deadline', False, failed=True)
    wanted = 1 if spec.replicas is None else spec.replicas
    updated, total, available = status.updatedReplicas or 0, status.replicas or 0, status.availableReplicas or 0
    begin = f'Waiting for deployment "{name}" rollout to finish: '
    if updated < wanted:
        return Progress(f"{begin}{updated} out of {wanted} new replicas have been updated...", False)
    if total > updated:
        return Progress(f"{begin}{total - updated} old replicas are pending termination...", False)
    if available < updated:
        return Progress(f"{begin}{available} of {updated} updated replicas are available...", False)
    return Progress(f'deployment "{name}" successfully rolled out', True)


Document = dict[str, Any]


def revisions(deployment: Document, replica_sets: Iterable[Document]) -> dict[int, Document]:
    """The deployment's own replica sets by revision, the oldest first."""
    uid = deployment["metadata"]["uid"]
    found: dict[int, Document] = {}
    for one in replica_sets:
        owners = one["metadata"].get("ownerReferences") or []
        if any(owner.get("uid") == uid and owner.get("controller") for owner in owners):
            found[revision_of(one)] = one
    return dict(sorted(found.items()))


def revision_of(obj: Document) -> int:
    """0 where the controller has not numbered it yet."""
    number = (obj["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(number) if number.isdecimal() else 0


def change_cause(obj: Document) -> str:
    return (obj["metadata"].get("annotations") or {}).get(CHANGE_CAUSE) or "<none>"


def template_of(replica_set: Document) -> Document:
    """The pod template of a revision, as the deployment had it."""
    template: Document = replica_set["spec"]["template"]
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    return template | {"metadata": metadata | {"labels": labels}}


def revision_to_go_back_to(deployment: Document, found: dict[int, Document], asked: int) -> int:
    """The revision asked for, or (0) the one before the present. Raises `CliError` where there is none."""
    name = deployment["metadata"]["name"]
    if asked:
        if asked not in found:
            raise CliError(f'unable to find revision {asked} of deployment "{name}"; it has {_listed(found)}')
        return asked
    if len(found) < 2:
        raise CliError(f'no rollout history found for deployment "{name}": it has had no other revision')
    return list(found)[-2]


def _listed(found: dict[int, Document]) -> str:
    return ", ".join(map(str, found)) or "none yet"
