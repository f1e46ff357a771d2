"""Streams into pods at the REST door: log, exec, attach and port-forward, as every Kubernetes client asks for them.

Start reading at `service`; then by protocol:

* `options` – what the query asks for; `logs` – a log as one chunked answer;
* `processes` – exec and attach, whatever carries them: `websocket_processes` over `channels` (WebSocket,
  `v5.channel.k8s.io` and its forerunners), `spdy_processes` over SPDY/3.1;
* `forwarding` – one connection into a pod, whatever carries it: `spdy_forwarding`, raw or in a tunnel of WebSocket
  messages, and `websocket_forwarding`;
* `spdy_frames` – SPDY/3.1 on the wire, without I/O; `spdy_connection` – its streams and their flow control; `wires` –
  what carries its bytes;
* `inflow` – what waits for the pod to take it, bounded for each stream and for a connection;
* `idle` – when a stream is given up.

In: a `RestCall` that is authorised. Out: messages of the worker's node API, and back. Guarantees: a refusal that can be
told before the connection changes its protocol is an ordinary `Status`; each end is read no faster than the other takes
it; whoever goes away leaves nothing running but their command.
"""
