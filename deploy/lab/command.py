"""`barque lab`: a cluster of several hosts on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from barque.deploy.lab import host as hosts
from barque.deploy.lab import state
from barque.deploy.lab.plan import DEFAULT_SUBNET, LabError

if TYPE_CHECKING:
    from barque.deploy.lab.lab import Lab

DEFAULT_DIR = "/var/lib/barque-lab"

F = TypeVar("F", bound=Callable[..., Any])


class _Commands(click.Group):
    """Says what is wrong with a lab in one line, whichever command it was."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise click.ClickException(str(error)) from error


@click.group("lab", cls=_Commands, short_help="A cluster of several hosts on this machine.")
@click.option(
    "--dir",
    "directory",
    envvar="BARQUE_LAB",
    default=DEFAULT_DIR,
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="All there is of the lab; $BARQUE_LAB too.",
)
@click.pass_context
def lab(ctx: click.Context, directory: Path) -> None:
    """Run a cluster of several hosts on this machine, without virtual machines, and hurt it.

    Each host is a set of namespaces on one bridge, with a disk, a dockerd, a name and an address of its own: masters
    are m1, ..., workers w1, ... Nothing of this machine's own network changes, and the hosts reach nothing outside.

    \b
    Examples:
      barque lab up --workers 3
      barque lab exec m1 -- barque get nodes
      barque lab cut w1 w2
      barque lab kill w3
      barque lab down
    """
    ctx.obj = directory.absolute()


def _open(directory: Path) -> Lab:
    """Imported here, so that `exec` does not pay for what the others need."""
    from barque.deploy.lab.lab import Lab
    from barque.deploy.progress import Report

    report = Report()
    click.get_current_context().call_on_close(report.close)
    return Lab(directory, report)


def _host_names(function: F) -> F:
    return click.argument("names", metavar="HOST...", nargs=-1, required=True)(function)


@lab.command(short_help="Bring the lab up.")
@click.option("--masters", default=1, show_default=True, help="How many hosts run a master.")
@click.option("--workers", default=3, show_default=True, help="How many hosts run a worker.")
@click.option("--subnet", default=DEFAULT_SUBNET, show_default=True, help="The hosts' addresses.")
@click.pass_obj
def up(directory: Path, masters: int, workers: int, subnet: str) -> None:
    """Bring the lab up: returns once every node is Ready. Run it again to start what stopped.

    Every worker has the image barque-demo/web:1, so pods can run without a registry.

    Several masters agree through Raft: of three one may die, of five two.

    \b
    Examples:
      barque lab up
      barque lab up --masters 3 --workers 2
      barque lab --dir /tmp/lab up --workers 5
    """
    _open(directory).up(masters, workers, subnet)
    click.echo("The lab is up. Try: barque lab exec m1 -- barque get nodes")


@lab.command(short_help="Take the lab down.")
@click.option("--keep", is_flag=True, help="Keep the hosts' disks for the next `up`.")
@click.pass_obj
def down(directory: Path, keep: bool) -> None:
    """Take the lab down: no process, link, mount, cgroup or directory stays behind, however `up` ended.

    \b
    Examples:
      barque lab down
      barque lab down --keep
    """
    if not _open(directory).down(keep=keep):
        click.echo(f"There is no lab in {directory}.")
    else:
        click.echo(f"The lab is down; its disks are kept in {directory}." if keep else "The lab is gone.")


@lab.command(short_help="Show the hosts.")
@click.pass_obj
def status(directory: Path) -> None:
    """Show every host: whether it is up, its link, its daemons, and what the cluster says of it: of a master whether it
    leads, of a worker whether its node is Ready.

    \b
    Examples:
      barque lab status
    """
    click.echo(_open(directory).status(), nl=False)


@lab.command("exec", short_help="Run a command in a host.", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="HOST")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(directory: Path, name: str, command: tuple[str, ...]) -> None:
    """Run a command in a host, by default paths and the lab's profile: nothing has to be told where it is.

    \b
    Examples:
      barque lab exec m1 -- barque get nodes
      barque lab exec w1 -- ip route
      barque lab exec w1 -- bash
    """
    host = state.read(directory).running(name)
    if why := hosts.missing():
        raise LabError(why)
    argv = hosts.inside(host.pid, hosts.in_folder(os.getcwd(), command))
    os.execvpe(argv[0], argv, hosts.environment())


@lab.command(short_help="Drop all traffic between two hosts, or of one.")
@click.argument("first", metavar="HOST")
@click.argument("second", metavar="[HOST]", default="")
@click.pass_obj
def cut(directory: Path, first: str, second: str) -> None:
    """Let nothing pass between two hosts; with one, pull its cable.

    \b
    Examples:
      barque lab cut w1 w2
      barque lab cut m1
    """
    _open(directory).cut(first, second)
    click.echo(f"{first} and {second} are cut from each other." if second else f"{first} is cut from all others.")


@lab.command(short_help="Undo cuts.")
@click.argument("first", metavar="[HOST]", default="")
@click.argument("second", metavar="[HOST]", default="")
@click.pass_obj
def heal(directory: Path, first: str, second: str) -> None:
    """Undo the cut between two hosts, all cuts of one host, or all there are.

    \b
    Examples:
      barque lab heal w1 w2
      barque lab heal w1
      barque lab heal
    """
    _open(directory).heal(first, second)
    click.echo(f"Healed {' and '.join(filter(None, (first, second))) or 'every link'}.")


@lab.command(short_help="Cut hosts' power.")
@_host_names
@click.pass_obj
def kill(directory: Path, names: tuple[str, ...]) -> None:
    """Cut hosts' power: daemons, Docker and containers end at once, links go down; `start` brings them back.

    \b
    Examples:
      barque lab kill w2
    """
    _open(directory).kill(names)
    click.echo(f"Off: {', '.join(names)}.")


@lab.command(short_help="Start hosts that are off.")
@_host_names
@click.pass_obj
def start(directory: Path, names: tuple[str, ...]) -> None:
    """Start hosts that are off, with the disks they had, and daemons that ended.

    It returns once their nodes are Ready, unless the masters are kept from seeing them, or have no majority.

    \b
    Examples:
      barque lab start w2
    """
    _open(directory).start(names)
    click.echo(f"Up: {', '.join(names)}.")


@lab.command(short_help="Halt hosts.")
@_host_names
@click.pass_obj
def pause(directory: Path, names: tuple[str, ...]) -> None:
    """Halt every process of hosts, containers too. Their links stay up, and nobody answers.

    \b
    Examples:
      barque lab pause m1
    """
    _open(directory).pause(names)
    click.echo(f"Paused: {', '.join(names)}.")


@lab.command(short_help="Let paused hosts go on.")
@_host_names
@click.pass_obj
def resume(directory: Path, names: tuple[str, ...]) -> None:
    """Let paused hosts go on where they were.

    \b
    Examples:
      barque lab resume m1
    """
    _open(directory).resume(names)
    click.echo(f"Resumed: {', '.join(names)}.")
