"""Server-side apply: who owns which field of an object, and the merge of what somebody applies.

Pure: documents are plain JSON dictionaries, objects typed structs, times arguments; nothing given is changed. Source:
KEP-555 and the algorithm of sigs.k8s.io/structured-merge-diff, with the rules that Kubernetes' field manager lays
around it; docs/decisions/0005 says what was chosen and what it costs. How the registry calls it:

**Create, update, the three patches, status, scale** - whatever is not an apply (a binding is tracked by nobody):

1. `check_manager(name, "Update")`; decode, default, mutate, carry over and validate as ever, `managedFields` untouched.
   What a client sent there stays on the new object: nothing means "keep the tracked owners", a list of one empty entry
   "forget them". An explicit empty list means that too, but is lost in decoding: pass the body, or the patched
   document, through `mark_reset` first.
2. Where nothing but `managedFields` differs from the stored object, nothing is written.
3. Last of all, after defaults, which belong to the writer:
   `new.metadata.managedFields = track_update(old, new, Manager(name, "Update", subresource, now))`; `old` is None for a
   create. Again on every retry, from the fresh object.

**Apply** (PATCH of `application/apply-patch+yaml`):

1. `check_manager(name, "Apply")`; parse the body into a dictionary and check it for unknown fields, but do not default
   it. `check_configuration(kind, configuration)` refuses what brings owners or is of another kind (2. does so too). Its
   `metadata.resourceVersion`, if any, is an optimistic lock, compared as for an update.
2. `applied = apply_configuration(kind, live, configuration, Manager(name, "Apply", subresource, now), force)`, where
   `live` is None for a create. Raises 409 `Conflict` naming the owners, 400 for what cannot be applied. Again on every
   retry.
3. `new` is decoded from `applied.document`; then system fields, carry over, defaults, mutation and validation as for an
   update. What these add is owned by nobody.
4. `new.metadata.managedFields = finish(live, new, applied.managed)`: the old times where nothing changed, so that the
   same apply again writes nothing.

**Scale**: the field lies in the parent, as `.spec.replicas`. Updates track, and applies merge `{"spec": {"replicas":
n}}` (with the parent's apiVersion, kind and name) into, the parent with `subresource="scale"`; a Scale shows
`scale_managed(parent.metadata.managedFields)`.

The manager's name is the request's `fieldManager`, else it comes from the user agent: `manager_name`.
"""

from __future__ import annotations

from barque.api.apply.configuration import Applied, apply_configuration, check_configuration, finish
from barque.api.apply.managers import Manager, check_manager, manager_name, scale_managed
from barque.api.apply.update import mark_reset, track_update

__all__ = [
    "Applied",
    "Manager",
    "apply_configuration",
    "check_configuration",
    "check_manager",
    "finish",
    "manager_name",
    "mark_reset",
    "scale_managed",
    "track_update",
]
