"""Bodies in Kubernetes' protobuf, as kubectl and controllers written in Go send those of the kinds they know.

In: `application/vnd.kubernetes.protobuf`, an envelope around one object. Out: the object as JSON. Answers are never
protobuf: whoever asks for it also takes JSON. `messages` is what the fields are called and numbered, written by
`generate`; `decoding` reads bodies by it.
"""
