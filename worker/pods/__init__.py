"""Pods on this node: what is there, what to do next, what to report."""
