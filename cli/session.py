"""One run of the command: profile, connection, event loop, and how it ends.

`Session.run` connects, runs one coroutine and closes. Errors become one line each and an exit code in `explain`:
0 done, 1 refused or failed, 2 wrong usage, 130 interrupted, 143 terminated, 141 the reader of a pipe went away.

Of several masters another is tried where one does not serve, with a line on standard error that says so. A profile that
has not been written for a while learns of masters that came or went.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from barque.api.errors import ApiError, unavailable
from barque.cli.output import CliError, Screen
from barque.client.clock import Clock, SystemClock

if TYPE_CHECKING:
    import datetime

    from barque.client.client import Client
    from barque.client.profile import Profile
    from barque.client.remote import Connection as Remote
    from barque.client.verbs import Verbs

T = TypeVar("T")

# One answer of a healthy master takes milliseconds; a master that is electing or starting answers within this.
REQUEST_TIMEOUT_S = 30.0
# Where no master can serve, as while they elect a leader (1 to 3 s), they are asked again for so long.
PATIENCE_S = 8.0
# How old a profile may be before the masters are asked who they are, and how long a command that is done waits for it.
PROFILE_AGE_S = 300.0
_KEEP_GRACE_S = 0.2
# How `client.channels` begins when none of the profile's masters can be connected to.
_UNREACHABLE = "no master is reachable"
# What `client.wire` says of a master of another cluster, and of one that breaks a handshake off.
_OTHER_CLUSTER, _BROKEN_OFF = "is not of this cluster's CA", ("connection closed", "connection reset")
# How the authoriser words a right that is lacking; other refusals are of the object or the cluster's state.
_LACKING = 'forbidden: User "'
# What a shell makes of an end by SIGTERM.
TERMINATED = 143


class Connection(Protocol):
    """What `barque.client.remote.connect` gives."""

    verbs: Verbs
    client: Client

    @property
    def master(self) -> str: ...
    @property
    def pods(self) -> Any: ...
    @property
    def cluster(self) -> Any: ...
    @property
    def images(self) -> Any: ...
    async def ready(self) -> None: ...
    async def close(self) -> None: ...


Warn = Callable[[str], None]


def _connect(profile: Profile, warn: Warn) -> Connection:
    from barque.client.remote import connect

    return connect(profile, on_warning=warn, patience_s=PATIENCE_S)


def _load(path: Path | None, context: str) -> Profile:
    from barque.client import profile

    try:
        return profile.load(path, context)
    except profile.ProfileError as error:
        raise CliError(str(error)) from None


@dataclass
class Session:
    """What every verb is handed. `config`, `context` and `namespace_given` are the user's, "" where not given."""

    config: str = ""
    context: str = ""
    namespace_given: str = ""
    timeout_s: float = REQUEST_TIMEOUT_S
    screen: Screen = field(default_factory=Screen)
    clock: Clock = field(default_factory=SystemClock)
    load: Callable[[Path | None, str], Profile] = _load
    connect: Callable[[Profile, Warn], Connection] = _connect

    @cached_property
    def profile(self) -> Profile:
        return self.load(Path(self.config).expanduser() if self.config else None, self.context)

    @property
    def namespace(self) -> str:
        """Where namespaced objects are meant: -n, else the profile's."""
        return self.namespace_given or self.profile.namespace or "default"

    def run(self, body: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Connect, run `body`, close. Ctrl-C cancels it and comes out as `KeyboardInterrupt`.

        SIGTERM and SIGHUP cancel it too, so that the terminal is given back as it was.
        """
        try:
            with asyncio.Runner() as runner:
                return runner.run(self._run(body))
        except asyncio.CancelledError:
            raise SystemExit(TERMINATED) from None

    async def _run(self, body: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
            loop.add_signal_handler(signal.SIGHUP, task.cancel)
        return await self.connected(body)

    async def connected(self, body: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """As `run`, inside an event loop that others handle the signals of."""
        connection = self.connect(self.profile, lambda warning: self.screen.note(f"Warning: {warning}"))
        self.screen.waiting(f"waiting for an answer of {self._masters()}")
        keeping = self._begin_keeping(connection)
        try:
            return await body(connection)
        except asyncio.CancelledError:
            if _interrupted():
                raise
            raise unavailable(f"the master {connection.master} broke off the call") from None
        except Exception as error:
            told = self._blamed(translated(error), connection)
            if told is error:
                raise
            raise told from error
        finally:
            self.screen.quiet()
            if keeping is not None:
                await asyncio.wait({keeping}, timeout=_KEEP_GRACE_S)
                keeping.cancel()
            await connection.close()

    def _blamed(self, error: Exception, connection: Connection) -> Exception:
        """The user's own certificate in the masters' place, where it is at fault."""
        if not isinstance(error, ApiError) or _remote(connection) is None:
            return error
        fault = certificate_fault(error.message, self.profile, self.clock.wall())
        return CliError(fault) if fault else error

    def _begin_keeping(self, connection: Connection) -> asyncio.Task[None] | None:
        """Have what is done about the masters said, once each, and an old profile learn who they are."""
        remote = _remote(connection)
        if remote is None:
            return None
        said: set[str] = set()

        def say(line: str) -> None:
            if line not in said:
                said.add(line)
                self.screen.note(line)

        remote.channels.say = say
        return asyncio.create_task(self._keep_masters(remote), name="the profile's masters")

    async def _keep_masters(self, remote: Remote) -> None:
        import grpc.aio

        from barque.client.masters import learn_masters
        from barque.client.profile import ProfileError, note_masters

        path = self._profile_path()
        # A convenience: where it fails, the command's own calls say what is wrong.
        with suppress(OSError, ProfileError, ApiError, grpc.aio.AioRpcError):
            if self.clock.wall().timestamp() - os.stat(path).st_mtime < PROFILE_AGE_S:
                return
            found = await learn_masters(remote)
            if found is None:
                os.utime(path)
            else:
                note_masters(path, self.profile.ca, found)

    def _profile_path(self) -> Path:
        from barque.client.profile import default_path

        return Path(self.config).expanduser() if self.config else default_path()

    def _masters(self) -> str:
        return " or ".join(self.profile.masters)

    async def call(self, request: Awaitable[T]) -> T:
        """One request, given up after the request timeout."""
        try:
            async with asyncio.timeout(self.timeout_s or None):
                return await request
        except TimeoutError:
            raise CliError(
                f"no answer of {self._masters()} within {self.timeout_s:g}s; is a master running there? "
                "(--request-timeout changes the wait)"
            ) from None


def _remote(connection: Connection) -> Remote | None:
    """The connection where it leads out of this process."""
    if "barque.client.remote" not in sys.modules:
        return None
    from barque.client.remote import Connection as Remote

    return connection if isinstance(connection, Remote) else None


def explain(error: ApiError, doing: str = "") -> str:
    """A refusal as kubectl words it; `doing` says during what, as in `error when creating "web.yaml": `."""
    if error.reason == "Invalid":
        return _invalid(error)
    if error.reason == "ServiceUnavailable" and error.message.startswith(_UNREACHABLE):
        return f"Unable to reach the cluster: {error.message}; {_where_to_look(error.message)}"
    if error.reason == "Unauthorized":
        return f"error: you are not known to the cluster: {error.message}"
    reason = f" ({error.reason})" if error.reason else ""
    return f"Error from server{reason}: {doing}{error.message}{_what_to_do(error)}"


def _where_to_look(unreachable: str) -> str:
    if _OTHER_CLUSTER in unreachable:
        return (
            "another cluster answers there, or this one was founded anew: `barque config get-contexts` lists those "
            "of the profile, `barque config import FILE` takes over the way to another"
        )
    return "if none runs here, `barque up` or `barque master run` starts one"


def certificate_fault(unreachable: str, profile: Profile, now: datetime.datetime) -> str:
    """What to say of masters that break off the handshake, where the user's own certificate has ended; else ""."""
    if not unreachable.startswith(_UNREACHABLE) or not any(sign in unreachable for sign in _BROKEN_OFF):
        return ""
    ended = profile.identity.expires
    if now < ended:
        return ""
    return (
        f"your certificate for this cluster has ended, on {ended:%Y-%m-%d}: `barque master init`, run again on the "
        "first master's machine, puts a new one into the administrator's profile there"
    )


def _what_to_do(error: ApiError) -> str:
    """Where a right is lacking: which there are. Where the masters cannot agree: who tells more, what can be read."""
    if error.reason == "Forbidden" and _LACKING in error.message:
        return "; `barque auth can-i --list` shows what you may do"
    if error.code != 503 or error.details is None or error.details.retryAfterSeconds is None:
        return ""
    return "; `barque cluster status` shows why, `barque get --stale` what one master still knows"


def _invalid(error: ApiError) -> str:
    causes = error.details.causes if error.details is not None else []
    head, separator, _ = error.message.partition(" is invalid: ")
    if not separator:
        return f"The request is invalid: {error.message}"
    if len(causes) < 2:
        return f"The {_without_group(error.message)}"
    faults = "".join(f"\n* {c.field}: {c.message}" if c.field else f"\n* {c.message}" for c in causes)
    return f"The {_without_group(head)} is invalid:{faults}"


def _without_group(message: str) -> str:
    kind, quote, rest = message.partition(' "')
    return f"{kind.partition('.')[0]}{quote}{rest}"


def _interrupted() -> bool:
    """Whether this run itself is being cancelled; grpc raises CancelledError also where the master ends a call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def translated(error: Exception) -> Exception:
    """A stub's failed call as the `ApiError` it carries; anything else as it is."""
    if "grpc" not in sys.modules:
        return error
    import grpc.aio

    from barque.client import wire

    return wire.api_error(error) if isinstance(error, grpc.aio.AioRpcError) else error


@contextmanager
def translating() -> Iterator[None]:
    """Have a stub's failed call leave the block as the `ApiError` it carries."""
    try:
        yield
    except Exception as error:
        told = translated(error)
        if told is error:
            raise
        raise told from error


def debugging() -> bool:
    """Whether BARQUE_DEBUG=1 asks for tracebacks."""
    return os.environ.get("BARQUE_DEBUG", "") not in ("", "0")
