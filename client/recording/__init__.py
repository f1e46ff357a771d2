"""How Events come about on the recording side; `client.recorder` puts the parts together.

* `record` – one Event that exists, or is about to; references to what it is about
* `correlator` – equal events are counted, similar ones combined, floods held back. Pure
* `series` – repeats become a series, as components of the newer Event API tell them. Pure
* `outbox` – bounded waiting and writing
"""
