"""HTTP through the masters to pods, services and nodes: what the `proxy` subresources do once a request is let in.

Start reading at `barque.master.apiserver.rest.proxy`, the handler; then `destinations` (which pod or node is meant),
`headers` (what of a request and of an answer passes, pure), `links` (those of an HTML page lead back here, pure),
`connections` (a connection through the worker's node API, with TLS where the path says `https:`), `exchange` (one
HTTP/1.1 exchange on such a connection) and `tunnel` (both directions after an upgrade). Guarantees: what the caller is
known by never reaches the backend; each direction is read as fast as the other side takes it; whichever end goes away,
the other is let go.
"""
