"""iptables as text: which chains are ours, how a change becomes `iptables-restore` input, and its driver.

Start reading at `chains` and `restore`, which are pure: rules wished and rules there in, the smallest input out.
`driver` runs the tools, `writers` keeps a killed worker's last write from meeting ours, `fingerprint` and `nft` tell
cheaply whether somebody else has changed a table. Guarantees: chains without the prefix `BARQUE-` are never touched;
one restore of a table is applied whole or not at all.
"""
