"""How pods and services reach each other on a host: the pod network, the service proxy and what they leave behind.

Pure planners and renderers decide; thin drivers (netlink, `iptables-restore`) carry out. Only chains with the prefix
`BARQUE-` and links with the prefix `bq` are ever touched.
"""
