"""iptables as text: which chains are ours, how a change becomes `iptables-restore` input, and its driver."""
