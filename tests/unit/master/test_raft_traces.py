"""Scripts of Raft: commands and, below each, all that the members do because of it.

The files in `raft_traces` are read top to bottom: a line `> command` is carried out, what follows up to the next one is
the whole trace it must leave. `BARQUE_WRITE_TRACES=1` writes the traces anew, to be read before they are believed.

    group a b c [learners d] [log a 1.1.2] [term a 3]   members; entries of the given terms, or a higher term, on disk
    settings election_s=1 inflight_messages=2 ...       of the core, before `group`
    campaign a | propose a x y | configure a voters a b learners c | read a 7 | transfer a b | retract a 4
    deliver [a>b|>b|a>]                                 what is on its way now (there)
    settle                                              until nothing is on its way
    drop a>b | copy a>b                                 lose what is on its way there; double it
    cut a | mend a                                      a member hears and says nothing
    wait 0.5 | run 0.5                                  seconds pass: nothing arrives, or everything at once
    hold a | write a [n] | sync a                       the medium of a stops; n writes; all of them, and it goes on
    crash a | boot a                                    without what was not written
    compact a 5 | install b a | report a b ok|failed    a's log begins at 5; b takes a's snapshot; a hears how it went
    show [a]                                            how things stand
    quiet | loud                                        leave the traces between out

The shortest election timeout is 1 s; a waits 1.0 s, b 1.1 s, c 1.2 s and so on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import pytest

from barque.master.raft.messages import (
    Append,
    AppendReply,
    Configuration,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Kind,
    Message,
    ReadReply,
    ReadRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    decode_configuration,
)
from barque.master.raft.ready import BusyError, CoreSettings, DivergedError, NotLeaderError, Ready
from tests.support.raft import FixedPatience, Machine, Medium, a_configuration

TRACES = sorted((Path(__file__).parent / "raft_traces").glob("*.txt"))


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_trace(path: Path) -> None:
    expected = path.read_text()
    played = play(expected)
    if os.environ.get("BARQUE_WRITE_TRACES"):
        path.write_text(played)
    assert played == expected


def test_there_are_traces() -> None:
    assert len(TRACES) >= 25


def play(script: str) -> str:
    """The script with the traces that its commands leave."""
    stage = Stage()
    lines: list[str] = []
    commands = [line for line in script.splitlines() if line.startswith((">", "#"))]
    for line in commands:
        if line.startswith("#"):
            lines += ["", line] if lines and not lines[-1].startswith("#") else [line]
        else:
            lines += [line, *(f"    {event}" for event in stage.carry_out(line[1:].split()))]
    return "\n".join(lines) + "\n"


class Stage:
    def __init__(self) -> None:
        self.now = 0.0
        self.machines: dict[str, Machine] = {}
        self.settings = CoreSettings()
        self.network: list[Message] = []
        self.held: list[str] = []
        self.cut: list[str] = []
        self.loud = True
        self.trace: list[str] = []

    def carry_out(self, words: list[str]) -> list[str]:
        self.trace = []
        was_loud = self.loud
        try:
            getattr(self, f"do_{words[0]}")(*words[1:])
            self._pump()
        except (BusyError, NotLeaderError, DivergedError, ValueError) as e:
            self.trace.append(f"{type(e).__name__}: {e}")
        return self.trace if was_loud and self.loud else []

    def do_settings(self, *pairs: str) -> None:
        values = {name: float(value) if "." in value else int(value) for name, value in (p.split("=") for p in pairs)}
        self.settings = self.settings._replace(**values)  # type: ignore[arg-type]

    def do_group(self, *words: str) -> None:
        parts = _parts(words, "voters", "learners", "log", "term")
        configuration = a_configuration(parts["voters"], parts["learners"])
        logs = dict(zip(parts["log"][::2], parts["log"][1::2], strict=True))
        terms = dict(zip(parts["term"][::2], map(int, parts["term"][1::2]), strict=True))
        for member in (*parts["voters"], *parts["learners"]):
            written = [int(term) for term in logs[member].split(".")] if member in logs else []
            entries = [Entry(index, term, 1, b"old") for index, term in enumerate(written, 1)]
            self._add(member, Medium(configuration, entries, terms.get(member, 0)))

    def do_join(self, member: str) -> None:
        self._add(member, Medium(Configuration()))

    def _add(self, member: str, medium: Medium) -> None:
        patience = FixedPatience(round(0.1 * (ord(member[0]) - ord("a")), 1))
        told = lambda ready: self._note(member, ready)  # noqa: E731
        self.machines[member] = Machine(member, medium, patience, self.settings, told)
        self.machines[member].boot(self.now)
        self.machines[member].take()
        self.trace.clear()

    def do_campaign(self, member: str) -> None:
        self.machines[member].core.campaign()

    def do_propose(self, member: str, *payloads: str) -> None:
        self.machines[member].core.propose([payload.encode() for payload in payloads])

    def do_fill(self, member: str, count: str, size: str) -> None:
        self.machines[member].core.propose([b"x" * int(size)] * int(count))

    def do_configure(self, member: str, *words: str) -> None:
        parts = _parts(words, "voters", "learners")
        self.machines[member].core.propose_configuration(a_configuration(parts["voters"], parts["learners"]))

    def do_read(self, member: str, context: str) -> None:
        self.machines[member].core.read(int(context))

    def do_transfer(self, member: str, to: str) -> None:
        self.machines[member].core.transfer(to)

    def do_retract(self, member: str, index: str) -> None:
        machine = self.machines[member]
        forgotten = machine.core.retract(int(index))
        machine.writes.clear()
        self.trace.append(f"{member} takes back {_entries(forgotten)}")

    def do_deliver(self, link: str = ">") -> None:
        going = [message for message in self.network if _on(link, message)]
        for message in going:
            self._arrive(message)

    def do_settle(self) -> None:
        self._pump()
        for _ in range(10_000):
            if not self.network:
                return
            self._arrive(self.network[0])
        raise AssertionError("it never settles")

    def do_drop(self, link: str) -> None:
        self.network = [message for message in self.network if not _on(link, message)]

    def do_copy(self, link: str) -> None:
        self.network += [message for message in self.network if _on(link, message)]

    def do_cut(self, member: str) -> None:
        self.cut.append(member)

    def do_mend(self, member: str) -> None:
        self.cut.remove(member)

    def do_wait(self, seconds: str) -> None:
        self._pass(float(seconds), lambda: None)

    def do_run(self, seconds: str) -> None:
        self.do_settle()
        self._pass(float(seconds), self.do_settle)

    def _pass(self, seconds: float, between: Callable[[], None]) -> None:
        end = round(self.now + seconds, 6)
        while True:
            up = [machine for machine in self.machines.values() if machine.up]
            first = min(up, key=lambda machine: machine.core.deadline)
            if first.core.deadline > end:
                break
            self.now = max(self.now, first.core.deadline)
            first.core.tick(self.now)
            self._pump()
            between()
        self.now = end

    def do_hold(self, member: str) -> None:
        self.held.append(member)

    def do_write(self, member: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self._write(self.machines[member])

    def do_sync(self, member: str) -> None:
        self.held.remove(member)

    def do_crash(self, member: str) -> None:
        self.machines[member].crash()

    def do_boot(self, member: str) -> None:
        self.machines[member].boot(self.now)

    def do_compact(self, member: str, index: str) -> None:
        self.machines[member].compact(int(index))

    def do_install(self, member: str, source: str) -> None:
        snapshot = self.machines[source].snapshot_for(member)
        if not self.machines[member].install(snapshot):
            self.trace.append(f"{member} needs no snapshot of {snapshot.index}/{snapshot.term}")

    def do_report(self, member: str, other: str, outcome: str) -> None:
        self.machines[member].core.reported(other, outcome == "ok")

    def do_election(self, member: str, seconds: str) -> None:
        self.machines[member].core.set_election(float(seconds))

    def do_show(self, *members: str) -> None:
        for member in members or [name for name, machine in self.machines.items() if machine.up]:
            core = self.machines[member].core
            log = " ".join(str(core.term_at(i)) for i in range(core.base_index + 1, core.last_index + 1))
            self.trace.append(
                f"{member}: {core.role.value} t{core.term}, log after {core.base_index}: [{log}], "
                f"durable {core.durable_index}, commit {core.commit}, {_configuration(core.configuration)}"
            )
            for other in self.machines:
                progress = core.progress(other)
                if progress is not None:
                    self.trace.append(f"  {other}: {progress.flow.value}, match {progress.match}, next {progress.next}")

    def do_quiet(self) -> None:
        self.loud = False

    def do_loud(self) -> None:
        self.loud = True

    def _arrive(self, message: Message) -> None:
        self.network.remove(message)
        machine = self.machines[message.to]
        if machine.up and message.to not in self.cut and message.sender not in self.cut:
            machine.core.step(message, self.now)
        self._pump()

    def _pump(self) -> None:
        for machine in self.machines.values():
            while machine.up and (machine.core.has_ready or (machine.writes and machine.member not in self.held)):
                if machine.core.has_ready:
                    self._send(machine.take().now)
                if machine.member not in self.held:
                    while machine.writes:
                        self._write(machine)

    def _write(self, machine: Machine) -> None:
        self._send(machine.write())

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            self.trace.append(f"{message.sender} > {message.to}: {self.told(message)}")
            if message.to in self.machines and message.sender not in self.cut and message.to not in self.cut:
                self.network.append(message)

    def _note(self, member: str, ready: Ready) -> None:
        if ready.standing is not None:
            standing = ready.standing
            leader = "" if standing.leader in ("", member) else f" of {standing.leader}"
            self.trace.append(f"{member} is {standing.role.value}{leader} t{standing.term}")
        if ready.hard_state is not None or ready.entries:
            self.trace.append(f"{member} writes {_written(ready.hard_state, ready.entries)}")
        if ready.committed:
            self.trace.append(f"{member} applies {_entries(ready.committed)}")
        for read in ready.reads:
            self.trace.append(f"{member} may read {read.context} at {read.index}")
        for behind in ready.behind:
            self.trace.append(f"{member} finds {behind} behind")

    @singledispatchmethod
    def told(self, message: Any) -> str:
        raise AssertionError(message)

    @told.register
    def _(self, m: VoteRequest) -> str:
        forced = ", forced" if m.forced else ""
        return f"{'pre-vote' if m.pre else 'vote'} t{m.term}? log ends {m.last_index}/{m.last_term}{forced}"

    @told.register
    def _(self, m: VoteReply) -> str:
        return f"{'pre-vote' if m.pre else 'vote'} t{m.term} {'granted' if m.granted else 'refused'}"

    @told.register
    def _(self, m: Append) -> str:
        return f"append t{m.term} {m.previous_index}/{m.previous_term} + {_entries(m.entries)} commit {m.commit}"

    @told.register
    def _(self, m: AppendReply) -> str:
        if m.rejected:
            return f"no match t{m.term} at {m.index}, try {m.hint_index}/{m.hint_term}"
        return f"have t{m.term} {m.index}"

    @told.register
    def _(self, m: Heartbeat) -> str:
        return f"heartbeat t{m.term} commit {m.commit}" + (f" round {m.context}" if m.context else "")

    @told.register
    def _(self, m: HeartbeatReply) -> str:
        return f"heard t{m.term}" + (f" round {m.context}" if m.context else "")

    @told.register
    def _(self, m: ReadRequest) -> str:
        return f"read t{m.term} {m.context}?"

    @told.register
    def _(self, m: ReadReply) -> str:
        return f"read t{m.term} {m.context} at {m.index}"

    @told.register
    def _(self, m: TimeoutNow) -> str:
        return f"stand now t{m.term}"


def _parts(words: tuple[str, ...], first: str, *others: str) -> dict[str, list[str]]:
    """The words after each of the names; those before any belong to the first."""
    parts: dict[str, list[str]] = {name: [] for name in (first, *others)}
    current = first
    for word in words:
        if word in parts:
            current = word
        else:
            parts[current].append(word)
    return parts


def _on(link: str, message: Message) -> bool:
    sender, to = link.split(">")
    return sender in ("", message.sender) and to in ("", message.to)


def _written(hard_state: HardState | None, entries: list[Entry]) -> str:
    parts = []
    if hard_state is not None:
        parts.append(f"t{hard_state.term} vote {hard_state.vote or '-'} commit {hard_state.commit}")
    if entries:
        parts.append(_entries(entries))
    return ", ".join(parts)


def _entries(entries: Any) -> str:
    shown = [_entry(entry) for entry in entries]
    if len(shown) > 6:
        shown = [*shown[:2], f"…{len(shown) - 3}…", shown[-1]]
    return f"[{' '.join(shown)}]"


def _entry(entry: Entry) -> str:
    match entry.kind:
        case Kind.EMPTY:
            data = ""
        case Kind.CONFIGURATION:
            data = f"={_configuration(decode_configuration(entry.data))}"
        case _:
            data = f"={entry.data.decode()}" if len(entry.data) < 20 else f"={len(entry.data)}B"
    return f"{entry.index}/{entry.term}{data}"


def _configuration(configuration: Configuration) -> str:
    parts = [",".join(configuration.voters)]
    if configuration.outgoing:
        parts.append(f"was {','.join(configuration.outgoing)}")
    if configuration.learners:
        parts.append(f"learners {','.join(configuration.learners)}")
    if configuration.removed:
        parts.append(f"removed {','.join(configuration.removed)}")
    return f"({'; '.join(parts)})"
