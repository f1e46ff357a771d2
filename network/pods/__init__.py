"""The pod network of one host: a routed veth per pod, a durable address book, no bridge."""
