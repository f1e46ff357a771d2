"""Tables that were not there before our first rule: remembered, and taken away again once they hold nothing.

An empty table changes no packet's way, but `iptables-save` shows it. Only tables of the nft variant can be taken away:
the legacy variant has no call that unloads a table of a network namespace, so an empty one stays there until the next
boot.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from barque.network.iptables.nft import NftChain, NftSocket, NftTable
from barque.network.sysctls import save_json

OURS = ("filter", "nat")
TABLES_FILE = "tables.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The kernel's own chains in these tables, as the nft variant names them.
BUILTINS = frozenset({"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"})
# Others may change rules between our look and the deletion; then we look again.
ATTEMPTS = 5


class TableRecord:
    """Which of our tables this boot's first run did not find. Methods block; they raise `OSError`."""

    def __init__(self, path: Path, boot_id: Path = BOOT_ID) -> None:
        self._path = path
        self._boot_id = boot_id

    def remember(self, present: Collection[str]) -> None:
        """`present` are the tables there are. To be called before the first rule; later calls change nothing."""
        document = self._load()
        boot = self._boot_id.read_text().strip()
        # No rule outlives a boot: what was absent before an earlier one says nothing about this.
        if document.get("boot") != boot:
            absent = [name for name in OURS if name not in present]
            save_json(self._path, {"boot": boot, "absent": absent}, durable=True)

    def absent(self) -> list[str]:
        return list(self._load().get("absent", ()))

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    def _load(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return {}


def plan_table_removal(absent: Collection[str], tables: Sequence[NftTable], chains: Sequence[NftChain]) -> list[str]:
    """Those of the once absent tables that hold nothing but empty chains of the kernel's own with policy ACCEPT."""
    removable: list[str] = []
    for table in tables:
        held = [chain for chain in chains if chain.table == table.name]
        bare = all(chain.name in BUILTINS and chain.accepts and not chain.uses for chain in held)
        # More uses than chains: somebody's set or counter.
        if table.name in absent and bare and table.uses == len(held):
            removable.append(table.name)
    return removable


def present_tables() -> list[str]:
    """The nft variant's IPv4 tables in this network namespace."""
    with NftSocket() as sock:
        return [table.name for table in sock.tables()]


def remove_tables(absent: Collection[str]) -> list[str]:
    """Delete those of the once absent tables that are bare by now; returns them. Blocks; raises `OSError`."""
    if not absent:
        return []
    with NftSocket() as sock:
        for _ in range(ATTEMPTS):
            generation = sock.generation()
            names = plan_table_removal(absent, sock.tables(), sock.chains())
            try:
                sock.delete_tables(names, generation)
            except OSError as error:
                if error.errno != errno.ERESTART:
                    raise
            else:
                return names
    raise OSError(errno.EBUSY, "other programs keep changing the packet filter")
