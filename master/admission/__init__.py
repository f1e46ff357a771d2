"""Admission: what the cluster says of a valid object before it is written, and what it hands out once only.

Called by `master.apiserver.strategies`, between validation and commit; a pod gets its account (`accounts`) before it is
validated. A module per kind: `services` (cluster addresses and node ports; start reading there), `nodes` (ranges of pod
addresses), `pods` with `tolerations` (the quality of service, patience with lost nodes), `namespaces` (what may be
created where, and what is never deleted), `events` (how many may be written). `claims` is how a choice becomes a
reservation.

In: an object that has its defaults and is valid, the reservations as this master knows them, chance. Out: the object,
filled in, with the `Claims` of its op; an `ApiError` where the user asked for what another holds. Guarantees: no number
is given twice, whichever masters choose at the same moment, because the object's own op takes the reservation or fails;
what an update leaves open is kept; nothing here waits or reads the store.
"""
