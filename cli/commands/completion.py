"""`barque completion`: the script with which a shell completes verbs, resource types and names."""

from __future__ import annotations

import click

from barque.cli.verb import Verb

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=Verb,
    examples="""
    source <(barque completion bash)                 for this shell; in ~/.bashrc for every one
    barque completion zsh > "${fpath[1]}/_barque"
    barque completion fish > ~/.config/fish/completions/barque.fish
    """,
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print a script for the shell. With it, Tab completes verbs, options, resource types, and the names of the objects
    there are.
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    assert completer is not None, f"click knows no completion for {shell}"
    root = click.get_current_context().find_root().command
    click.echo(completer(root, {}, "barque", "_BARQUE_COMPLETE").source())
