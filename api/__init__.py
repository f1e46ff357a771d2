"""The objects of the cluster: what they are, what is filled in, what is wrong with them, how they change and show.

The lowest room: it imports nothing of Barque but itself, and does no I/O; time and randomness are arguments (only the
time zones' data is read from the machine). Objects, fields and words are Kubernetes v1.36's. docs/objects.md tells it
at length; where to look:

* `types` the generated structs, a module per group; `shapes` how their fields nest and merge; `codec` their bytes;
* `resources` what is served, `unserved` what is known besides; `fields` what of an object can be selected by;
* `decode` strict reading of what users send, `yaml_documents` and `scalars` the YAML before it;
* `conversion` kinds that are served in several versions;
* `defaults` what is filled in, `validation` what is wrong, `errors` how that is said;
* `patch` three patches, `apply` server-side apply and the owners of fields;
* `openapi` what clients read of kinds and verbs before they use them;
* `columns` the tables of `get`, `views` what caches keep of an object;
* values: `quantity`, `resourcelists`, `durations`, `intorstring`, `selectors`, `names`, `addresses`, `cron`,
  `timestamps`;
* readings of objects that several rooms share: `podstatus`, `conditions`, `occurrences`, `hashing`.

Guarantees: nothing here waits or logs; what is given is never changed, except by `defaults` and by what is named to set
something; importing a module imports no type groups but those it speaks of.
"""
