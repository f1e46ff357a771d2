"""The verbs, one module each; `barque.cli.main` imports a verb when it is called."""
