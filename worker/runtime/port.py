"""`Runtime`: what a worker asks of a container engine, in terms near Kubernetes' CRI.

Every method is idempotent where it can be: starting what runs, killing or removing what is gone are no errors. Errors
are one small tree under `RuntimeFault`; `RuntimeUnavailableError` alone means that the engine itself did not answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

State = Literal["created", "running", "exited"]
# Whether mounts made later on one side show on the other: on neither, in the container, on both.
Propagation = Literal["rprivate", "rslave", "rshared"]


class RuntimeFault(Exception):
    """The engine refused; the message is the engine's own sentence."""


class RuntimeUnavailableError(RuntimeFault):
    """The engine does not answer: stopped, restarting or overloaded."""


class ContainerNotFoundError(RuntimeFault):
    """No such container (any more)."""


class NameTakenError(RuntimeFault):
    """A container of this name exists already: left half made by an earlier run."""


class ImageMissingError(RuntimeFault):
    """The image is not on this node."""


class ImageInUseError(RuntimeFault):
    """A container, running or not, was made of the image."""


class PullError(RuntimeFault):
    """The image could not be pulled; the message is the engine's."""


class RuntimeInfo(NamedTuple):
    """The engine and its host, for the Node's status."""

    version: str
    api_version: str
    root_dir: str
    operating_system: str
    architecture: str
    kernel: str
    cpus: int
    memory_bytes: int


class Limits(NamedTuple):
    """What a container may use. 0 means no limit, save for `oom_score_adj`."""

    cpu_shares: int = 2
    nano_cpus: int = 0
    memory_bytes: int = 0
    oom_score_adj: int = 0
    # Processes and threads.
    pids: int = 0


class ContainerRecord(NamedTuple):
    """One container as the engine knows it. Times are RFC 3339 with fractions, "" where there is none."""

    id: str
    name: str
    labels: Mapping[str, str]
    state: State
    image: str = ""
    image_id: str = ""
    pid: int = 0
    # The path of the network namespace of a running one.
    netns: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    # The engine's words when it could not start the container.
    error: str = ""
    created_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    stop_signal: str = ""
    tty: bool = False
    # Where on the host stands what it has written: its own layer, its logs.
    written: tuple[str, ...] = ()
    # Those in effect; None where the engine does not say.
    limits: Limits | None = None


class ContainerSummary(NamedTuple):
    """The cheap form of a record, of which an engine lists many at once."""

    id: str
    labels: Mapping[str, str]
    state: State


class Mount(NamedTuple):
    source: str
    target: str
    read_only: bool = False
    propagation: Propagation = "rprivate"


class Security(NamedTuple):
    user: str = ""
    groups: tuple[str, ...] = ()
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    read_only_root: bool = False
    no_new_privileges: bool = False
    # "" for the engine's own profile, "unconfined", or a profile's JSON.
    seccomp: str = ""


class ContainerSpec(NamedTuple):
    """Everything decided at creation. `sandbox` is the id of the container whose namespaces to share; "" makes a
    sandbox, which gets a network namespace with nothing in it.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    sandbox: str = ""
    share_processes: bool = False
    # The id of a container whose process namespace to enter.
    processes_of: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    working_dir: str = ""
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    limits: Limits = Limits()
    security: Security = Security()
    sysctls: tuple[tuple[str, str], ...] = ()


class ImageRecord(NamedTuple):
    id: str
    # The configured user, "" for root.
    user: str = ""
    digests: tuple[str, ...] = ()
    size_bytes: int = 0


class ImageUsage(NamedTuple):
    """`names` are tags and digests; empty for an image that lost its tag to another."""

    names: tuple[str, ...]
    size_bytes: int
    id: str = ""


class Login(NamedTuple):
    """What a registry knows the puller by."""

    username: str = ""
    password: str = ""
    registry: str = ""


class LogRotation(NamedTuple):
    """How much of each container's output is kept: so many files of at most `file_bytes`."""

    file_bytes: int = 10 * 1024 * 1024
    files: int = 5


class Resync(NamedTuple):
    """The event stream has (re)started: anything may have changed while nobody listened."""


class Changed(NamedTuple):
    """A container ended, or is `gone` for good."""

    id: str
    gone: bool = False


RuntimeEvent = Resync | Changed


class LogOptions(NamedTuple):
    """`tail_lines` below 0 means all; `since` is UTC in RFC 3339 with nine digits of fractions, "" for no limit: what
    is older is left out. `stream` is one of the two outputs, "" for both.
    """

    follow: bool = False
    tail_lines: int = -1
    since: str = ""
    stream: Literal["", "stdout", "stderr"] = ""


class LogRecord(NamedTuple):
    """A line of a log with its end, or a piece of one that is long or has no end. `time` is as in `LogOptions`."""

    time: str
    data: bytes


class ExecOptions(NamedTuple):
    command: Sequence[str]
    stdin: bool = False
    tty: bool = False
    columns: int = 0
    rows: int = 0


class Session(Protocol):
    """A process in a container, talked to. Reading and writing wait for the far end: nothing piles up."""

    def output(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
        """What the process prints, until it ends."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def end_input(self) -> None: ...

    async def resize(self, columns: int, rows: int) -> None: ...

    async def close(self) -> None:
        """Let go of the streams; the process itself is not ended by this."""
        ...


class ExecSession(Session, Protocol):
    """A command beside the container's own process."""

    async def exit_code(self) -> int:
        """The command's exit code, once `output` has ended."""
        ...


class Runtime(Protocol):
    """The engine. `list`, `watch` see only the containers of this worker."""

    @property
    def sandbox_image(self) -> str:
        """The image of sandboxes; `prepare` makes sure that it is there."""
        ...

    async def prepare(self) -> RuntimeInfo:
        """Reach the engine and load the sandbox image where it is missing."""
        ...

    async def list(self) -> Sequence[ContainerSummary]: ...

    async def inspect(self, container_id: str) -> ContainerRecord:
        """Raises `ContainerNotFoundError`."""
        ...

    async def create(self, spec: ContainerSpec) -> str:
        """The new container's id. Raises `ImageMissingError`, `NameTakenError`, `RuntimeFault`."""
        ...

    async def start(self, container_id: str) -> None:
        """Raises `RuntimeFault` with the engine's words where the command cannot be run."""
        ...

    async def update(self, container_id: str, limits: Limits) -> None:
        """Give a container other limits of cpu and memory while it runs. Raises `RuntimeFault`, as where the container
        uses more memory already.
        """
        ...

    async def signal(self, container_id: str, signal: str) -> None: ...

    async def remove(self, container_id: str) -> None:
        """Remove the container, running or not: once this returns it is gone."""
        ...

    async def image(self, reference: str) -> ImageRecord | None: ...

    async def images(self) -> Sequence[ImageUsage]: ...

    async def images_in_use(self) -> Mapping[str, bool]:
        """The ids of the images that any container was made of; whether one of this worker's containers was."""
        ...

    async def pull(self, reference: str, login: Login | None = None) -> None:
        """Raises `PullError`."""
        ...

    async def load_images(self, archive: AsyncIterator[bytes], size_bytes: int) -> Sequence[str]:
        """Take in an archive of this size, as `docker save` writes it; the names, or ids, of its images. Raises
        `RuntimeFault`.
        """
        ...

    async def remove_image(self, reference: str) -> None:
        """Remove an image by name or id. Raises `ImageInUseError`, `ImageMissingError`."""
        ...

    def watch(self) -> AsyncGenerator[RuntimeEvent, None]:
        """Changes as they happen, beginning with `Resync`. Ends by raising `RuntimeUnavailableError`."""
        ...

    def logs(self, container_id: str, options: LogOptions) -> AsyncGenerator[LogRecord, None]:
        """What was written to both outputs, in order. With `follow`, until the container ends."""
        ...

    async def exec(self, container_id: str, options: ExecOptions) -> ExecSession: ...

    async def attach(self, container_id: str, *, stdin: bool) -> Session:
        """The container's own process, from now on; `stdin` for one that was created with such."""
        ...

    async def close(self) -> None: ...
