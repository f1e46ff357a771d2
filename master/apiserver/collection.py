"""Delete a collection: every selected object as a delete of it alone would, many of them to one commit."""

from __future__ import annotations

from barque.api.errors import ApiError
from barque.api.types.meta_v1 import DeleteOptions
from barque.client.verbs import Page, RawList, Selection
from barque.master.apiserver import reads
from barque.master.apiserver.deletion import Deletion
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.proposals import Writer, propose
from barque.master.store.port import Stored

# Deletes to one commit: few enough that nothing they hold is large, enough that the fsyncs cost nothing beside them.
_BATCH = 256


async def delete_collection(
    environment: Environment, call: Call, selection: Selection, page: Page, options: DeleteOptions
) -> RawList:
    """Delete what a list of this page would give; what others delete meanwhile is no fault.

    Raises the first refusal (409 where a precondition does not hold); what shared a commit with that object, or came
    before, is deleted, what comes after is not.
    """
    backend = environment.backend(call.target.resource)
    found = await reads.find(backend, call.target, selection, page)
    answered: list[bytes] = []
    for start in range(0, len(found.items), _BATCH):
        writers = [_deletion(environment, call, stored, options) for stored in found.items[start : start + _BATCH]]
        for answer in await propose(writers):
            if isinstance(answer, bytes):
                answered.append(answer)
            elif answer.code != 404:
                raise answer
    return RawList(answered, str(found.revision), found.continue_, found.remaining)


def _deletion(environment: Environment, call: Call, stored: Stored, options: DeleteOptions) -> Writer | ApiError:
    key = stored.key
    target = call.target._replace(namespace=key.namespace, name=key.name)
    try:
        return Deletion(environment, Call(call.user, target, call.warnings, call.options), options)
    except ApiError as refused:
        return refused
