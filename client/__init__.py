"""How any process talks to the masters: verbs, informers, work queues, identity, supervision and the clock."""
