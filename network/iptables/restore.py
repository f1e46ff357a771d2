"""Changes of chains as `iptables-restore --noflush` input. Pure text.

In: the chains to (re)write, those to remove, and the jumps wanted. Out: restore texts, to be run in order. Guarantees:
each chain is replaced as one; a chain is written before any that jumps to it and removed after, so that between two
texts every packet still finds a complete way; chains and rules of others are never named, except in a `-D` of a jump to
a chain of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from barque.network.iptables.chains import JUMPS, PREFIX, ChainId, Chains, Jump, Rules, target_of_rule


class Step(NamedTuple):
    """Lines of one chain that stay together: declared (hence emptied), filled, or deleted."""

    chain: str
    rules: Rules = ()
    delete: bool = False

    @property
    def lines(self) -> int:
        return 1 + len(self.rules)


def plan_restores(
    put: Chains, remove: Collection[ChainId], *, max_lines: int, tables: Sequence[str] = ("filter", "nat")
) -> list[str]:
    """Restore texts of at most about `max_lines` lines each, table by table in the order given.

    All that fits into one text is one text, and each table's part of a text is atomic in the kernel.
    """
    texts: list[str] = []
    open_text, open_lines = "", 0
    for table in tables:
        for batch in _batches(_steps(table, put, remove), max_lines):
            lines = sum(step.lines for step in batch)
            if open_text and open_lines + lines > max_lines:
                texts.append(open_text)
                open_text, open_lines = "", 0
            open_text += render_table(table, batch)
            open_lines += lines
    return [*texts, open_text] if open_text else texts


def _steps(table: str, put: Chains, remove: Collection[ChainId]) -> list[Step]:
    wanted = {chain.name: rules for chain, rules in put.items() if chain.table == table}
    gone = sorted(chain.name for chain in remove if chain.table == table)
    writes = [Step(name, wanted[name]) for name in leaves_first(wanted)]
    # All are emptied before any is deleted: the kernel refuses to delete a chain that another still names.
    return [*writes, *(Step(name) for name in gone), *(Step(name, delete=True) for name in gone)]


def _batches(steps: Iterable[Step], max_lines: int) -> Iterable[list[Step]]:
    batch: list[Step] = []
    lines = 0
    for step in steps:
        if batch and lines + step.lines > max_lines:
            yield batch
            batch, lines = [], 0
        batch.append(step)
        lines += step.lines
    if batch:
        yield batch


def render_table(table: str, steps: Sequence[Step], extra: Sequence[str] = ()) -> str:
    """One table's block: declarations, rules, `extra` lines, deletions."""
    declared = dict.fromkeys(step.chain for step in steps if not step.delete)
    lines = [f"*{table}"]
    lines += [f":{chain} - [0:0]" for chain in declared]
    lines += [f"-A {step.chain} {rule}" for step in steps for rule in step.rules]
    lines += extra
    lines += [f"-X {step.chain}" for step in steps if step.delete]
    lines += ["COMMIT", ""]
    return "\n".join(lines)


def leaves_first(chains: Mapping[str, Rules]) -> list[str]:
    """The chains so ordered that each comes after all those it jumps to."""
    order: dict[str, None] = {}
    for start in chains:
        stack = [(start, False)]
        while stack:
            name, expanded = stack.pop()
            if name in order:
                continue
            if expanded:
                order[name] = None
                continue
            stack.append((name, True))
            stack.extend(
                (target, False)
                for target in {target_of_rule(rule) for rule in chains[name]}
                if target in chains and target not in order and target != name
            )
    return list(order)


def plan_jumps(table: str, listings: Mapping[str, Sequence[str]], wanted: Sequence[Jump]) -> str:
    """The restore text that puts the wanted jumps first in their chains; "" where they already are.

    `listings` holds what `iptables -S` prints of each of the kernel's chains. Our other jumps found there keep their
    place in the order of `JUMPS`; doubles and jumps of ours that no version knows go.
    """
    lines: list[str] = []
    for builtin, listing in listings.items():
        present = [line for line in listing if line.startswith(f"-A {builtin} ")]
        ours = [line for line in present if target_of_rule(line).startswith(PREFIX)]
        targets = {target_of_rule(line) for line in ours} | {j.target for j in wanted if j.builtin == builtin}
        head = [j for j in JUMPS if (j.table, j.builtin) == (table, builtin) and j.target in targets]
        found = [target_of_rule(line) for line in present[: len(head)]]
        if found == [j.target for j in head] and len(ours) == len(head):
            continue
        lines += [f"-D{line[2:]}" for line in ours]
        lines += [f"-I {builtin} {place} {jump.rule}" for place, jump in enumerate(head, 1)]
    return render_table(table, (), lines) if lines else ""


def plan_removal(table: str, saved: str, *, max_lines: int) -> list[str]:
    """Restore texts that remove every chain of ours and every jump to one, from what `iptables-save` printed."""
    chains: list[str] = []
    jumps: list[str] = []
    for line in saved.splitlines():
        if line.startswith(f":{PREFIX}"):
            chains.append(line[1:].split(" ", 1)[0])
        elif line.startswith("-A ") and not line.startswith(f"-A {PREFIX}") and target_of_rule(line).startswith(PREFIX):
            jumps.append(f"-D{line[2:]}")
    texts = [render_table(table, (), jumps)] if jumps else []
    return texts + plan_restores({}, {ChainId(table, c) for c in chains}, max_lines=max_lines, tables=(table,))


def measure_chains(chains: Chains, table: str, entrances: Collection[str] = ()) -> dict[str, int]:
    """What each chain of a table measures: its rules, and the jumps to it from all of `chains`.

    Of `entrances`, to which rules of others lead as well, only the rules count.
    """
    sizes = {chain.name: len(rules) for chain, rules in chains.items() if chain.table == table}
    for chain, rules in chains.items():
        if chain.table == table:
            for target in map(target_of_rule, rules):
                if target in sizes and target not in entrances:
                    sizes[target] += 1
    return sizes


def measure_saved(saved: bytes, entrances: Collection[str] = ()) -> dict[str, int]:
    """The same of our chains, from what `iptables-save` printed of one table: declarations first, then rules."""
    sizes: dict[bytes, int] = {}
    declared, added = f":{PREFIX}".encode(), b"-A "
    unmeasured = {name.encode() for name in entrances}
    for line in saved.split(b"\n"):
        if line.startswith(declared):
            sizes[line[1 : line.index(b" ")]] = 0
        elif line.startswith(added):
            _, chain, rule = line.split(b" ", 2)
            target = rule.rpartition(b"-j ")[2].partition(b" ")[0]
            if chain in sizes:
                sizes[chain] += 1
            if target in sizes and target not in unmeasured:
                sizes[target] += 1
    return {name.decode(): size for name, size in sizes.items()}
