"""`Replica`: the state of one member and where in the log it stands: what every member makes of an entry of any kind.

Pure, as the state machine is. Besides ops an entry may carry a command, which every member does at the same place:

* A restore comes as a sequence of entries: a begin, sections of a snapshot, an end. Sections gather beside the state,
  so they cost each turn of the loop a little, and take its place at the end entry: on every member between the same
  two writes. Sections come in their order; one that comes twice is passed over, one that is missing voids the restore.
  So does another restore's begin, and so do `_PATIENCE` inspections (a minute apart) without a section between them:
  whoever was sending it is gone. While one is open no snapshot is taken, since a snapshot would not hold what has
  gathered.
* A state whose quorum was given up for lost hands out no revision that one of the lost members may have handed out.
"""

from __future__ import annotations

from typing import NamedTuple

from barque.master.raft.messages import Configuration, Entry, Kind, decode_configuration
from barque.master.store.fsm import Applied, StateMachine
from barque.master.store.port import Op, Restored
from barque.master.store.records import (
    Command,
    Content,
    Inspect,
    QuorumRecovered,
    RestoreBegin,
    RestoreEnd,
    RestoreSection,
)
from barque.master.store.snapshot import Objects, load_section, unpack_section

# What a state that takes another's place adds to the revision, so that no revision is ever handed out twice.
REVISION_STEP = 10**9
# Inspections without a section of it after which a restore is void: the first may come right after a section.
_PATIENCE = 2


class Turn(NamedTuple):
    """What a command has done beside changing objects. `restarted`: no watch may go on; `replaced` is the state that
    stood before. `restored` answers a restore's end, or `refusal` does.
    """

    restarted: bool = False
    replaced: StateMachine | None = None
    restored: Restored | None = None
    refusal: str = ""
    inspect: str = ""


class _Restore:
    """A restore that is under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.machine = StateMachine()
        self.sections = 0
        self.inspected = 0


_NOTHING = Turn()
_NO_CHANGE = Applied([], [])


class Replica:
    """`index` and `term` are those of the last entry applied, `configuration` is the one in force there."""

    def __init__(self, machine: StateMachine, index: int, term: int, configuration: Configuration) -> None:
        self.machine = machine
        self.index = index
        self.term = term
        self.configuration = configuration
        self._restore: _Restore | None = None

    @property
    def restoring(self) -> bool:
        """A restore has begun and not ended."""
        return self._restore is not None

    def apply_ops(self, entry: Entry, ops: list[Op]) -> Applied:
        self._passed(entry)
        return self.machine.apply(ops)

    def apply(self, entry: Entry, content: Content | None) -> tuple[Applied, Turn]:
        """An entry of any kind; `content` is that of a DATA entry."""
        if isinstance(content, list):
            return self.apply_ops(entry, content), _NOTHING
        self._passed(entry)
        if content is not None:
            return _NO_CHANGE, self._command(content)
        if entry.kind == Kind.CONFIGURATION:
            self.configuration = decode_configuration(entry.data)
        return _NO_CHANGE, _NOTHING

    def _passed(self, entry: Entry) -> None:
        self.index, self.term = entry.index, entry.term

    def _command(self, command: Command) -> Turn:
        if isinstance(command, RestoreBegin):
            if self._restore is None or self._restore.name != command.restore:
                self._restore = _Restore(command.restore)
        elif isinstance(command, RestoreSection):
            self._section(command)
        elif isinstance(command, RestoreEnd):
            return self._end(command)
        elif isinstance(command, Inspect):
            return self._inspected(command)
        else:
            assert isinstance(command, QuorumRecovered)
            self.machine.revision += REVISION_STEP
            return Turn(restarted=True)
        return _NOTHING

    def _section(self, section: RestoreSection) -> None:
        restore = self._restore
        if restore is None or restore.name != section.restore or section.number < restore.sections:
            return
        if section.number > restore.sections:
            self._restore = None
            return
        content = Objects(section.secrets) if section.secrets else unpack_section(section.packed)
        assert content is not None, "a section was read before it was proposed"
        load_section(restore.machine, content)
        restore.sections += 1
        restore.inspected = 0

    def _inspected(self, inspect: Inspect) -> Turn:
        restore = self._restore
        if restore is not None:
            restore.inspected += 1
            if restore.inspected >= _PATIENCE:
                self._restore = None
        return Turn(inspect=inspect.asked)

    def _end(self, end: RestoreEnd) -> Turn:
        restore, before = self._restore, self.machine
        if restore is None or restore.name != end.restore:
            return Turn(refusal="another restore has taken its place, or it was given up; nothing was restored")
        self._restore = None
        if restore.sections != end.sections or len(restore.machine) != end.objects:
            return Turn(refusal="a part of it got lost on its way; nothing was restored")
        machine = restore.machine
        machine.revision = max(machine.revision, before.revision) + REVISION_STEP
        # An op sent again now was applied before the restore: it has its first result, and is not applied again.
        machine.take_results(before)
        self.machine = machine
        return Turn(restarted=True, replaced=before, restored=Restored(machine.revision, len(machine)))
