"""Kubernetes' object types, one generated module per API group and version; import only the groups you need."""
