"""What several modules share: one master for the clients that others wrote, as each keeps to namespaces of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rest_master import RestMaster, a_rest_master


@pytest.fixture(scope="session")
def rest_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    """A master that serves, for tests that leave it as they found it."""
    with a_rest_master(tmp_path_factory.mktemp("rest")) as made:
        yield made
