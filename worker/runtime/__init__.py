"""The container runtime: the port, Docker behind it, and a fake for simulated nodes."""
