"""What a master measures of itself, as Prometheus reads it at `/metrics`.

Names and labels are Kubernetes' where it has the same figure (`apiserver_request_total`, `workqueue_depth`,
`process_resident_memory_bytes`, …); what only Barque has begins with `barque_`. Start reading at `page`; `exposition`
is the text format and its histogram, and every other module a source of families: `requests` (the doors), `queues` (the
controllers), `storage` (objects, log and the group of masters), `process` (memory, files, the event loop).

Counting is a few dictionary look-ups in the loop's own thread; text is made only while someone reads it, in slices.
No label holds a word that a client chose, so the number of series is bounded.
"""
