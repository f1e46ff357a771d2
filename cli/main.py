"""The `barque` command: its verbs, found and imported only when used, and how every failure becomes one line.

The commands of the daemons (`master`, `worker`, `up`, `down`, `lab`) come through the entry points `barque.commands`,
so that nothing here imports a daemon.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from barque.cli.verb import session_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Entry:
    """One line of the help: where the command is and what it does."""

    def __init__(self, section: str, help: str, module: str = "") -> None:
        self.section = section
        self.help = help
        self.module = module


OBJECTS = "Objects"
PODS = "Pods and rollouts"
CLUSTER = "Cluster"
COMMAND = "This command"
DAEMONS = "Daemons"

COMMANDS: dict[str, Entry] = {
    "apply": Entry(OBJECTS, "Create or change objects as manifests describe them.", "apply"),
    "diff": Entry(OBJECTS, "Show what apply would change.", "diff"),
    "create": Entry(OBJECTS, "Create new objects, of manifests or a few options.", "create"),
    "get": Entry(OBJECTS, "Show objects as a table, YAML or JSON; -w follows them.", "get"),
    "describe": Entry(OBJECTS, "Show an object in full, with its events.", "describe"),
    "edit": Entry(OBJECTS, "Change objects in an editor.", "edit"),
    "patch": Entry(OBJECTS, "Change fields of objects by a patch.", "patch"),
    "replace": Entry(OBJECTS, "Put objects in the place of what they are now, whole.", "replace"),
    "label": Entry(OBJECTS, "Set or take off labels.", "label"),
    "annotate": Entry(OBJECTS, "Set or take off annotations.", "annotate"),
    "delete": Entry(OBJECTS, "Delete objects and wait until they are gone.", "delete"),
    "scale": Entry(OBJECTS, "Set how many replicas run.", "scale"),
    "explain": Entry(OBJECTS, "Say what a field is for, and which fields there are.", "explain"),
    "wait": Entry(OBJECTS, "Wait for a condition or value of objects, or for their end.", "wait"),
    "expose": Entry(OBJECTS, "Make a service for what is there already.", "expose"),
    "set": Entry(OBJECTS, "Change images, variables or resources of what is there.", "set"),
    "events": Entry(OBJECTS, "Show what happened lately.", "events"),
    "feed": Entry(OBJECTS, "Follow every change of the cluster's objects.", "feed"),
    "logs": Entry(PODS, "Print what a pod's containers write.", "logs"),
    "exec": Entry(PODS, "Run a command in a container.", "exec"),
    "attach": Entry(PODS, "Attach to the process of a container.", "attach"),
    "port-forward": Entry(PODS, "Lead local ports into a pod.", "port_forward"),
    "cp": Entry(PODS, "Copy files to and from containers.", "cp"),
    "debug": Entry(PODS, "Look into a pod or a node with a container of one's own.", "debug"),
    "run": Entry(PODS, "Run one pod of an image.", "run"),
    "why": Entry(PODS, "Say what keeps a pod from running.", "why"),
    "rollout": Entry(PODS, "Follow, restart, pause or undo a rollout.", "rollout"),
    "api-resources": Entry(CLUSTER, "List the resource types that are served.", "api_resources"),
    "api-versions": Entry(CLUSTER, "List the API versions that are served.", "api_versions"),
    "cluster": Entry(CLUSTER, "Show the masters, add and remove them, save and restore their state.", "cluster"),
    "top": Entry(CLUSTER, "Show what nodes and pods use of CPU and memory.", "top"),
    "cordon": Entry(CLUSTER, "Let no new pods come to a node.", "cordon"),
    "uncordon": Entry(CLUSTER, "Let new pods come to a node again.", "uncordon"),
    "drain": Entry(CLUSTER, "Make a node free of pods before work on it.", "drain"),
    "taint": Entry(CLUSTER, "Set or take off taints, which turn pods away from a node.", "taint"),
    "node": Entry(CLUSTER, "Take a node out of the cluster for good.", "node"),
    "image": Entry(CLUSTER, "Load, list and remove the images of the nodes.", "image"),
    "certificate": Entry(CLUSTER, "Say yes or no to requests for certificates.", "certificate"),
    "token": Entry(CLUSTER, "Make the token with which a worker joins.", "token"),
    "auth": Entry(CLUSTER, "Say who one is to the cluster, and what one may do.", "auth"),
    "kubeconfig": Entry(CLUSTER, "Make the file by which kubectl finds the cluster.", "kubeconfig"),
    "version": Entry(CLUSTER, "Print the versions of client and server.", "version"),
    "config": Entry(COMMAND, "Choose the cluster and namespace that are meant.", "config"),
    "completion": Entry(COMMAND, "Print what makes a shell complete commands and names.", "completion"),
    "options": Entry(COMMAND, "List the options that every verb understands.", "options"),
    "up": Entry(DAEMONS, "Start a cluster on this machine: one master, one worker."),
    "down": Entry(DAEMONS, "Stop it, leaving nothing behind."),
    "lab": Entry(DAEMONS, "Run a cluster of several hosts on this machine, and hurt it."),
    "master": Entry(DAEMONS, "Found a cluster or join one, run a master."),
    "worker": Entry(DAEMONS, "Run a worker, join it to a cluster, clean up after it."),
}
ENTRY_POINTS = "barque.commands"
NEAR = 0.6


class Root(click.Group):
    """The verbs, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is not None and entry.module:
            command: click.Command = importlib.import_module(f"barque.cli.commands.{entry.module}").command
            return command
        return _from_entry_points(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=2, cutoff=NEAR)
            hint = f"did you mean {' or '.join(near)}?" if near else "`barque --help` lists the commands"
            click.echo(f'error: unknown command "{name}"; {hint}', err=True)
            ctx.exit(2)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs that begin so, told without importing any."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(n, help=e.help) for n, e in COMMANDS.items() if n.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(n, e.help) for n, e in COMMANDS.items() if e.section == section], col_spacing=3)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            raise _refusal(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            raise _refusal(error) from None
        except KeyboardInterrupt:
            ctx.exit(_ended(ctx, 130))
        except BrokenPipeError:
            _drop_output()
            ctx.exit(_ended(ctx, 141))
        except Exception as error:
            _fail(ctx, error)


def _from_entry_points(name: str) -> click.Command | None:
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=name):
        found: click.Command = point.load()
        return found
    return None


def _refusal(error: click.ClickException) -> click.ClickException:
    """click's own refusals, and those of the daemons' commands, in the form of ours."""
    from barque.cli.output import CliError, UsageFault

    if isinstance(error, (CliError, click.exceptions.NoArgsIsHelpError)):
        return error
    said = error.format_message()
    if not isinstance(error, click.UsageError):
        return CliError(said)
    path = error.ctx.command_path if error.ctx is not None else "barque"
    return UsageFault(f"{said[:1].lower()}{said[1:].removesuffix('.')}\nSee `{path} --help` for usage.")


def _fail(ctx: click.Context, error: Exception) -> NoReturn:
    """One line for any failure; the traceback only where BARQUE_DEBUG asks for it."""
    from barque.api.errors import ApiError
    from barque.cli.output import complain
    from barque.cli.session import debugging, explain
    from barque.client import system_errors

    if debugging():
        raise error
    if isinstance(error, ApiError):
        complain(explain(error))
    elif isinstance(error, OSError):
        complain(f"error: {system_errors.told(error)}")
    else:
        complain(f"error: unexpected {type(error).__name__}: {error}; BARQUE_DEBUG=1 shows where")
    ctx.exit(_ended(ctx, 1))


def _ended(ctx: click.Context, code: int) -> int:
    session = ctx.obj
    if session is not None and hasattr(session, "screen"):
        session.screen.quiet()
    return code


def _drop_output() -> None:
    """The reader is gone: what is still buffered must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group("barque", cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@session_options
def cli() -> None:
    """Barque runs containers on many hosts and keeps them as your manifests say, with Kubernetes' objects.

    `barque VERB --help` shows what a verb does, with examples.
    """


def main() -> None:
    """The console script, also of the daemons."""
    # gRPC reads these as it is imported, which a command's own options may do. Its fork handlers would wait for threads
    # of its own, and these for the interpreter, which whoever forks holds: a master that started its nats-server while
    # somebody shook hands stood still for ever. Children are started by exec at once, and need none of it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # Its own words for a handshake that fails are many lines; ours are one.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        cli(prog_name="barque")
    finally:
        # The interpreter's last collection would walk all that was imported, a tenth of a short command's time.
        gc.freeze()
