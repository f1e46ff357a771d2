"""A cluster of one host for the whole voyage: brought up by `barque up`, with the dockerd that `up` starts itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Host, a_host, missing

LOGS = Path(__file__).resolve().parents[2] / "build" / "e2e-logs"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with nothing on it."""
    if why := missing():
        pytest.skip(why)
    with a_host() as made:
        yield made
        # For whoever must find out why a test failed.
        shutil.rmtree(LOGS, ignore_errors=True)
        shutil.copytree(made.folder / "log", LOGS)
