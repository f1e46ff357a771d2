"""Leaves the host as it was before Barque: rules, tables, links, kernel settings. Idempotent.

What stood before is not kept apart: only what bears our names goes, so whatever others did meanwhile stays. Tables that
were not there before us go if nobody else has put anything into them (`iptables.tables`; not in the legacy variant).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from barque.network.dns.address import remove_addresses
from barque.network.iptables.driver import Iptables, IptablesError, Mode, docker_modes, installed_modes
from barque.network.iptables.restore import plan_removal
from barque.network.iptables.tables import OURS, TABLES_FILE, TableRecord, remove_tables
from barque.network.iptables.writers import WRITERS_FILE, WritersBusyError, open_writers
from barque.network.overlay.driver import remove_overlay
from barque.network.pods.driver import PodDriver
from barque.network.pods.network import BOOK_FILE, IP_FORWARD, STATE_DIR, SYSCTL_FILE
from barque.network.proxy.proxy import PROXY_SYSCTL_FILE
from barque.network.sysctls import SysctlRecord

log = logging.getLogger(__name__)


async def cleanup(state_dir: Path | str = STATE_DIR, modes: Sequence[Mode] | None = None) -> list[str]:
    """Remove our chains and jumps (from both variants of iptables), pod links, and settings; returns what was done.

    To be called once the worker has stopped; waits for what a killed one has left writing. Raises `IptablesError`,
    `SysctlError` or `OSError`.
    """
    try:
        writers = await open_writers(Path(state_dir))
    except WritersBusyError as error:
        raise IptablesError(str(error)) from error
    try:
        done = await _remove_all(Path(state_dir), modes)
    finally:
        writers.close()
    (Path(state_dir) / WRITERS_FILE).unlink(missing_ok=True)
    for line in done:
        log.info("cleanup: %s", line)
    return done


async def _remove_all(state_dir: Path, modes: Sequence[Mode] | None) -> list[str]:
    # Before the rule goes that guards the loopback.
    done = await _put_back(SysctlRecord(state_dir / PROXY_SYSCTL_FILE))
    for mode in modes if modes is not None else await installed_modes():
        iptables = Iptables(mode)
        for table in OURS:
            texts = plan_removal(table, (await iptables.save(table)).decode(), max_lines=iptables.max_lines)
            await iptables.restore_all(texts)
            if texts:
                done.append(f"removed our chains from the {table} table (iptables-{mode})")
    tables = TableRecord(state_dir / TABLES_FILE)
    removed = await asyncio.to_thread(lambda: remove_tables(tables.absent()))
    done += [f"removed the empty {table} table (iptables-nft)" for table in removed]
    tables.forget()
    driver = PodDriver()
    links = sorted(await driver.present())
    if links:
        await driver.detach(links)
        done.append(f"removed {len(links)} pod links")
    done += await asyncio.to_thread(remove_overlay)
    addresses = await asyncio.to_thread(remove_addresses, state_dir)
    done += [f"removed the cluster's DNS address {address} from this host" for address in addresses]
    # Where Docker came after us it found forwarding on, and relies on that.
    keep = [IP_FORWARD] if await docker_modes() else []
    done += await _put_back(SysctlRecord(state_dir / SYSCTL_FILE), keep)
    (state_dir / BOOK_FILE).unlink(missing_ok=True)
    return done


async def _put_back(record: SysctlRecord, keep: Sequence[str] = ()) -> list[str]:
    restored = await asyncio.to_thread(record.restore, keep)
    return [f"put back {name.replace('/', '.')}" for name in restored]
