"""`python -m barque.cli`: the `barque` command of this very installation, whatever PATH says."""

from barque.cli.main import main

main()
