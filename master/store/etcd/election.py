"""`Election`: this master's lease in etcd. Under it stand who it is and, if it came first, that it leads.

A master leads while etcd shows the leader's key under its lease and the lease is certain to last: the time counts from
before the request that renewed it. So a master that is cut off stops leading by itself before etcd gives the key to
another. What it writes late is refused all the same, because its writes compare the epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from barque.client.clock import Clock
from barque.master.raft.errors import StoreStartError
from barque.master.raft.messages import MemberInfo
from barque.master.store.etcd import layout
from barque.master.store.etcd.client import EtcdClient, EtcdError
from barque.master.store.etcd.layout import Keys
from barque.master.store.etcd.reader import Reader
from barque.master.store.port import StoreUnavailableError
from barque.proto import etcd_pb2 as pb

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_REVOKE_S = 1.0
# What etcd has done comes by on the watch within this.
_SOON_S = 0.02
# etcd ends a lease up to this much later than it could.
_LAPSE_S = 1.5


class Election:
    def __init__(
        self, client: EtcdClient, reader: Reader, keys: Keys, info: MemberInfo, lease_s: int, clock: Clock
    ) -> None:
        self.info = info
        self._client = client
        self._reader = reader
        self._keys = keys
        self._lease_s = lease_s
        self._clock = clock
        self._lease = 0
        # Until when the lease is certain to last.
        self._until = 0.0
        self._said = False
        self._turned = asyncio.Event()
        self._look = asyncio.Event()
        self._led = asyncio.Event()
        self._closed = ""
        reader.on_leader = self._leader_changed

    @property
    def leads(self) -> bool:
        return self._lease != 0 and self._reader.leader_lease == self._lease and self._clock.monotonic() < self._until

    async def led(self, *, leads: bool) -> None:
        """As `Store.led`."""
        while True:
            if self._closed:
                raise StoreUnavailableError(self._closed)
            if self.leads == leads:
                return
            await self._turned.wait()

    async def decided(self) -> None:
        """Until some master leads."""
        while not self._reader.leader:
            self._led.clear()
            await self._led.wait()

    async def claim_name(self) -> None:
        """Before `run`: end what is left of this master's earlier life, so that it need not run out first.

        Raises `StoreStartError` where another master of this name runs, and `EtcdError`.
        """
        patience_until = self._clock.monotonic() + self._lease_s + _LAPSE_S
        while (other := self._namesake()) is not None:
            if self._clock.monotonic() > patience_until:
                raise StoreStartError(
                    f"a master named {other.name} runs already, at {other.grpc_address}: stop that one, or give this "
                    "one a data directory and a --name of its own"
                )
            await self._clock.sleep(_RETRY_S)
        reply = await self._client.range(pb.RangeRequest(key=self._keys.members + self.info.id.encode()))
        for kv in reply.kvs:
            await self._client.revoke(kv.lease)
        while self.info.id in self._reader.members:
            await self._clock.sleep(_SOON_S)

    async def run(self) -> None:
        """Hold a lease, and stand for election whenever nobody leads, until cancelled."""
        while True:
            try:
                await self._hold_lease()
            except (EtcdError, TimeoutError) as e:
                log.warning("this master's lease in etcd is lost: %s", str(e) or "it was not renewed in time")
            self._lease = 0
            self._tell()
            await self._clock.sleep(_RETRY_S)

    async def close(self, why: str) -> None:
        """Let another master lead at once; `run` has ended."""
        self._closed = why
        lease, self._lease = self._lease, 0
        self._tell()
        self._turned.set()
        if lease:
            with contextlib.suppress(EtcdError, TimeoutError):
                async with asyncio.timeout(_REVOKE_S):
                    await self._client.revoke(lease)

    async def _hold_lease(self) -> None:
        """Until the lease has ended, or cannot be renewed in time."""
        client, keys = self._client, self._keys
        asked_at = self._clock.monotonic()
        lease, ttl_s = await client.grant(self._lease_s)
        self._lease, self._until = lease, asked_at + ttl_s
        member = layout.put(keys.members + self.info.id.encode(), msgspec.msgpack.encode(self.info), lease)
        await client.txn(pb.TxnRequest(success=[member]))
        while ttl_s > 0:
            if not self._reader.leader:
                # Whether it has come first, the watch says.
                standing = layout.put(keys.leader, self.info.id.encode(), lease)
                await client.txn(pb.TxnRequest(compare=[layout.modified_at(keys.leader, 0)], success=[standing]))
            self._tell()
            renew_at = asked_at + ttl_s / 3
            while (left := renew_at - self._clock.monotonic()) > 0 and (self._reader.leader or not self._look.is_set()):
                self._look.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._look.wait()
            if left <= 0:
                asked_at, ttl_s = await self._renew(lease)

    async def _renew(self, lease: int) -> tuple[float, int]:
        """When it was asked, and how long the lease lasts from then on. `TimeoutError` once it may have ended."""
        async with asyncio.timeout(max(0.0, self._until - self._clock.monotonic())):
            while True:
                asked_at = self._clock.monotonic()
                try:
                    ttl_s = await self._client.keep_alive(lease)
                except EtcdError as e:
                    log.info("this master's lease is not renewed yet: %s", e)
                    await self._clock.sleep(_RETRY_S)
                    continue
                self._until = asked_at + ttl_s
                return asked_at, ttl_s

    def _namesake(self) -> MemberInfo | None:
        """Another master that runs under this one's name or id, as its lease says."""
        own = self.info
        running = self._reader.members.values()
        return next((info for info in running if (info.name == own.name or info.id == own.id) and info != own), None)

    def _leader_changed(self) -> None:
        self._look.set()
        if self._reader.leader:
            self._led.set()
        self._tell()

    def _tell(self) -> None:
        """Wake those who wait for a change of `leads`."""
        leads = self.leads
        if leads != self._said:
            self._said = leads
            log.info("this master %s", "leads" if leads else "no longer leads")
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()
