"""The OpenAPI documents of the API: what clients read of kinds, fields and verbs before they use them. Pure.

In: the registry of resources and the generated types. Out: documents as bytes, version 2 whole (JSON, and the protobuf
that kubectl up to 1.27 asks for) and version 3 one for each group and version. On the way:

* `definitions` – one schema for each struct, under the name that Kubernetes gives it;
* `enums` – the fields that take one of a few words;
* `operations` – what may be asked for: paths, verbs, parameters, bodies and answers, in neither version's words;
* `v2`, `v3` – the words of each; `gnostic` – version 2 on the wire of protobuf.

Making them is work for a second; all of it is cut into slices, between which the maker can turn to something else.
Guarantees: the same rows give the same bytes; every name that a document refers to stands in it.
"""
