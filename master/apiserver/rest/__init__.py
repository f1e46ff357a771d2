"""The REST door (`:6443`): Kubernetes' API over HTTPS, for kubectl and every other client written for Kubernetes.

Start reading at `door`; then along the way of a request:

* `tls`, `limits` – connections, before there is a request;
* `request_info` – what a request's method and path ask for;
* `call` – the request once it is known who calls; `calls` is the frame of every one: who calls, how much at once, how a
  refusal is told;
* `negotiation`, `bodies` – in which form the answer is wanted and the body came;
* `objects`, `lists`, `watching`, `tables` – the verbs;
* `discovery`, `openapi`, `version`, `health` – what the door says of itself;
* `proxy` and `barque.master.apiserver.streams` lead on to pods and nodes.

What a verb does stands in the registry, the same for both doors. In: HTTP/1.1. Out: Kubernetes' wire forms; bytes of
stored objects pass through unchanged. Guarantees: a refusal is a `Status`; nobody sees a traceback; what one client
sends or leaves lying takes bounded memory and nothing from others.
"""
