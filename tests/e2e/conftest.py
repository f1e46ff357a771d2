"""A cluster of one host for the whole voyage: brought up by `barque up`, with the dockerd that `up` starts itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.host import Host, a_host, keep_logs, missing


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with nothing on it."""
    if why := missing():
        pytest.skip(why)
    with a_host() as made:
        yield made
        keep_logs(request.path.stem, {"host": made.folder / "log"})
