"""Ways to run Barque: on this machine (`barque up`), as systemd services, and the demo."""
