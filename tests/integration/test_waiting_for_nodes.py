"""Whoever starts a worker waits until its node is Ready by that worker's own word."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from barque.api.types.core_v1 import Node
from barque.client.client import target_of
from barque.client.clock import timestamp
from barque.client.profile import Profile
from barque.client.verbs import MERGE_PATCH
from barque.deploy.membership import MembershipError, wait_ready
from tests.support.harbour import Harbour, a_harbour

STARTED = datetime.datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=datetime.UTC)
LONG_AGO = STARTED - datetime.timedelta(hours=1)


@pytest.fixture
async def harbour(tmp_path: Path) -> AsyncIterator[Harbour]:
    async with a_harbour(tmp_path) as harbour:
        await harbour.node("n1", 7450)
        yield harbour


async def say(harbour: Harbour, ready: str, heard: datetime.datetime, message: str = "") -> None:
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": timestamp(heard), "message": message}
    body: Any = msgspec.json.encode({"status": {"conditions": [condition]}})
    await harbour.admin.verbs.patch(target_of(Node, "n1", "", "status"), MERGE_PATCH, body)


async def ready(harbour: Harbour, since: datetime.datetime | None, timeout_s: float = 20.0, fault: str = "") -> None:
    profile = Profile.of([f"127.0.0.1:{harbour.door.port}"], harbour.pki.admin)
    await wait_ready(profile, "n1", timeout_s, lambda: fault, since)


async def test_what_the_worker_before_it_said_does_not_count(harbour: Harbour) -> None:
    await say(harbour, "True", LONG_AGO)
    await ready(harbour, None)
    with pytest.raises(MembershipError, match="its worker has not told its state since it was started"):
        await ready(harbour, STARTED, timeout_s=0.2)
    waiting = asyncio.create_task(ready(harbour, STARTED))
    await say(harbour, "False", STARTED, "the pod network is not set up yet")
    assert not waiting.done()
    await say(harbour, "True", STARTED)
    await waiting


async def test_why_a_node_is_not_ready_is_said(harbour: Harbour) -> None:
    await say(harbour, "False", STARTED, "the pod network is not set up yet")
    with pytest.raises(MembershipError, match="the pod network is not set up yet"):
        await ready(harbour, STARTED, timeout_s=0.2)
    with pytest.raises(MembershipError, match="the worker ended"):
        await ready(harbour, STARTED, fault="the worker ended")
