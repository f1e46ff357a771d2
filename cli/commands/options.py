"""`barque options`: the options that every verb understands."""

from __future__ import annotations

import click

from barque.cli.verb import Verb, global_options


@click.command("options", cls=Verb, examples="barque options")
def command() -> None:
    """List the options that every verb understands, before the verb or behind it."""
    ctx = click.get_current_context()
    formatter = ctx.make_formatter()
    formatter.write("The following options can be passed to any command:\n\n")
    with formatter.indentation():
        formatter.write_dl([record for option in global_options() if (record := option.get_help_record(ctx))])
    click.echo(formatter.getvalue(), nl=False)
