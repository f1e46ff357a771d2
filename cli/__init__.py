"""The `barque` command."""
