"""The driver: runs `iptables-restore`, `iptables` and `iptables-save` of the variant this host uses.

`iptables-nft` and `iptables-legacy` keep separate rules, and a packet passes through both. Ours must stand in the same
variant as Docker's, else Docker's `FORWARD DROP` would drop what we accepted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

from barque.network.iptables.chains import PREFIX, Jump
from barque.network.iptables.fingerprint import legacy_figures
from barque.network.iptables.nft import NftSocket, nft_generation
from barque.network.iptables.restore import measure_saved, plan_jumps
from barque.network.iptables.tables import TABLES_FILE, TableRecord, present_tables
from barque.network.iptables.writers import Writers, WritersBusyError, open_writers

Mode = Literal["nft", "legacy"]

log = logging.getLogger(__name__)

# Another program may hold the xtables lock for the length of its own restore.
LOCK_WAIT_S = 10
# A full program of 10,000 services takes the legacy variant some seconds.
TIMEOUT_S = 120.0
# The nft variant's time grows with the square of the chains in one transaction; the legacy variant rewrites the whole
# table each time, so it wants few large ones. (3,000 services: nft 4.7 s in one, 0.9 s by 2,000 lines; legacy 0.2 s in
# one, 1.2 s by 2,000 lines. 10,000 services: nft 2.6 s by 1,000 lines, 2.0 s by 4,500; legacy 2.3 s by 32,000 lines,
# 0.8 s in one.)
MAX_LINES: dict[Mode, int] = {"nft": 4_000, "legacy": 160_000}


class IptablesError(Exception):
    """An iptables program failed; the message carries its own words."""


class Iptables:
    """The programs of one variant. Safe to share: each call is one process, and the kernel or the lock orders them."""

    def __init__(self, mode: Mode, writers: Writers | None = None) -> None:
        self.mode: Mode = mode
        self.max_lines = MAX_LINES[mode]
        self._writers = writers

    def close(self) -> None:
        """Let others write, where this one came from `open_iptables`."""
        if self._writers is not None:
            self._writers.close()
            self._writers = None

    async def restore(self, text: str) -> None:
        """Carry out a restore text; each table's block is atomic."""
        command = [f"iptables-{self.mode}-restore", "-w", str(LOCK_WAIT_S), "--noflush"]
        await _run(command, text.encode(), (self._writers.descriptor,) if self._writers is not None else ())

    async def restore_all(self, texts: Iterable[str]) -> None:
        for text in texts:
            await self.restore(text)

    async def restore_stream(self, texts: AsyncIterator[str]) -> None:
        """Carry out texts in order; each is made while the one before is at work."""
        text = await anext(texts, None)
        while text is not None:
            running = asyncio.create_task(self.restore(text))
            try:
                await asyncio.sleep(0)
                text = await anext(texts, None)
            finally:
                await running

    async def list_chain(self, table: str, chain: str) -> list[str]:
        """The rules of one chain as `iptables -S` prints them."""
        command = [f"iptables-{self.mode}", "-w", str(LOCK_WAIT_S), "-t", table, "-S", chain]
        return (await _run(command)).decode().splitlines()

    async def save(self, table: str) -> bytes:
        """A whole table as `iptables-save` prints it; b"" where the table is not in use."""
        if self.mode == "legacy" and table not in legacy_tables():
            return b""
        return await _run([f"iptables-{self.mode}-save", "-t", table])

    async def measure(self, table: str, entrances: Collection[str]) -> dict[str, int]:
        """What each chain of ours in a table measures, as `restore.measure_chains` tells what it should.

        The nft variant's kernel says it in microseconds a chain, where `iptables-nft-save` takes seconds.
        """
        if self.mode == "legacy":
            return await asyncio.to_thread(measure_saved, await self.save(table), entrances)
        return await asyncio.to_thread(_measure_nft, table, entrances)

    @property
    def exact(self) -> bool:
        """Whether the same `fingerprint` proves that no rule has changed."""
        return self.mode == "nft"

    async def fingerprint(self) -> object:
        """A value that differs once rules have changed; takes microseconds. Raises `OSError`."""
        return nft_generation() if self.mode == "nft" else legacy_figures(legacy_tables())

    async def ensure_jumps(self, wanted: Sequence[Jump]) -> bool:
        """Put the jumps where they belong; True where something had to be moved or added."""
        changed = False
        for table in dict.fromkeys(j.table for j in wanted):
            builtins = dict.fromkeys(j.builtin for j in wanted if j.table == table)
            listings = {builtin: await self.list_chain(table, builtin) for builtin in builtins}
            text = plan_jumps(table, listings, wanted)
            if text:
                await self.restore(text)
                changed = True
        return changed


def _measure_nft(table: str, entrances: Collection[str]) -> dict[str, int]:
    with NftSocket() as sock:
        sizes = {c.name: c.uses for c in sock.chains() if c.table == table and c.name.startswith(PREFIX)}
        return sizes | {name: sock.count_rules(table, name) for name in entrances if name in sizes}


def legacy_tables() -> set[str]:
    """Tables the legacy variant has in this network namespace; asking this way creates none."""
    try:
        return set(Path("/proc/thread-self/net/ip_tables_names").read_text().split())
    except FileNotFoundError:
        return set()


async def open_iptables(state_dir: Path) -> Iptables:
    """The variant this host uses, ready for its first rule: what `network.cleanup` must know of the tables is on disk,
    and no program that a killed worker has left still writes.

    Raises `IptablesError` where iptables is not installed, `OSError` where the disk or the kernel refuses.
    """
    mode = await detect_mode()
    try:
        iptables = Iptables(mode, await open_writers(state_dir))
    except WritersBusyError as error:
        raise IptablesError(str(error)) from error
    if iptables.mode == "nft":
        record = TableRecord(state_dir / TABLES_FILE)
        await asyncio.to_thread(lambda: record.remember(present_tables()))
    return iptables


async def detect_mode() -> Mode:
    """The variant this host uses. Raises `IptablesError` where iptables is not installed."""
    version = (await _run(["iptables", "--version"])).decode()
    default: Mode = "nft" if "nf_tables" in version else "legacy"
    return choose_mode(default, await docker_modes())


def choose_mode(default: Mode, docker_in: Sequence[Mode]) -> Mode:
    """Where Docker's rules stand, if in one variant only; else what plain `iptables` is."""
    return docker_in[0] if len(docker_in) == 1 else default


async def docker_modes() -> list[Mode]:
    """The variants in which Docker's rules stand."""
    return [mode for mode in await installed_modes() if await _has_docker(mode)]


async def installed_modes() -> list[Mode]:
    modes: list[Mode] = []
    for mode in ("nft", "legacy"):
        try:
            await _run([f"iptables-{mode}", "--version"])
        except IptablesError:
            continue
        modes.append(mode)
    return modes


def _complete(command: Sequence[str], stdin: bytes, inherited: Sequence[int]) -> subprocess.CompletedProcess[bytes]:
    # From a file the child reads without this process, which renders the next text meanwhile and may come late.
    with open(os.memfd_create("stdin"), "w+b") as file:
        file.write(stdin)
        file.seek(0)
        return subprocess.run(
            command, stdin=file, capture_output=True, timeout=TIMEOUT_S, check=False, pass_fds=inherited
        )


async def _has_docker(mode: Mode) -> bool:
    saved = await Iptables(mode).save("filter")
    return b"\n:DOCKER" in saved


async def _run(command: Sequence[str], stdin: bytes = b"", inherited: Sequence[int] = ()) -> bytes:
    # In a thread: a child that ends before it has read its input is an ordinary thing here, which event loops take ill.
    try:
        done = await asyncio.to_thread(_complete, command, stdin, inherited)
    except FileNotFoundError:
        raise IptablesError(f"{command[0]} is not installed: install the package iptables") from None
    except subprocess.TimeoutExpired:
        raise IptablesError(f"{command[0]} did not end within {TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise IptablesError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
