"""The service proxy: Services and EndpointSlices become nat chains on every node, in the manner of kube-proxy."""
