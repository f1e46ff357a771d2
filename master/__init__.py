"""The master daemon: store, API, controllers, scheduler and bus."""
