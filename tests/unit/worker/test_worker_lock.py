"""One worker on a data directory, and no cleanup while it runs."""

from pathlib import Path

import pytest

from barque.worker.cleanup import cleanup
from barque.worker.lock import only_one
from barque.worker.settings import Settings, WorkerError


async def test_a_cleanup_beside_a_running_worker_touches_nothing(tmp_path: Path) -> None:
    settings = Settings(tmp_path, docker_host=f"unix://{tmp_path}/none")
    with only_one(settings):
        with pytest.raises(WorkerError, match=r"another worker runs on .*: stop it first"):
            await cleanup(settings)
        with pytest.raises(WorkerError, match="another worker runs"), only_one(settings):
            pass
    # Free again, it goes on to what it needs next.
    with pytest.raises(WorkerError, match="no Docker at"):
        await cleanup(settings)
