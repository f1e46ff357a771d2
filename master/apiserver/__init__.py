"""The API: one registry of verbs, and the doors that lead to it.

Start reading at `registry`: authorise → decode → default → mutate → validate → admit → commit. Then, along the way of a
request:

* the gRPC door: `grpc_server` and its services `resources_service`, `pods_service`, `cluster_service`, `sessions`; what
  they share is `grpc_calls` (who calls, how many at once, how a refusal is told), `grpc_audit`, `messages` (requests
  that are none) and `framing` (lists and watches as bytes);
* the REST door: the package `rest`, with `streams` (exec, attach, port-forward, logs) and `proxying`; both doors ask
  `places` where a pod runs;
* reading: `reads`, with `paging` (which revision, which part of it) and `tables`;
* writing: `creation`, `modification` with `patching`, `scale` and `binding`, `applying`, `deletion` with `eviction`,
  `collection`; `token_request` writes nothing, but signs; `reviews` are answered and not kept;
  `metadata` and `strategies` are what they agree on, `options` what a caller may say besides the object;
* to the store: `proposals` turns decisions into ops and makes them anew where the state has moved on, `backend` is
  where a resource's objects are kept. `environment` is what all verbs work with, `settings` what an operator may set;
* `bootstrap`: the namespaces that every cluster has, each with its default account.

In: requests with an identity. Out: JSON bytes, or an `ApiError` in Kubernetes' words. Guarantees: a refusal changes
nothing, and no input is an internal error; a write is carried out on the very state it was decided on; a list is of one
revision; a read sees every write that was acknowledged before; bytes pass through a list or a watch undecoded; work
on many objects is sliced, so that no callback holds the event loop for more than 20 ms.
"""
