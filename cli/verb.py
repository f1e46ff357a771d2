"""How a verb of the command line is declared: help with examples, and the options every verb understands."""

from __future__ import annotations

import functools
import os
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from barque.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])
_COMMAND = "barque.command"


def session_of(ctx: click.Context) -> Session:
    """The session of this run, made on first use."""
    root = ctx.find_root()
    if root.obj is None:
        from barque.cli.session import Session

        root.obj = Session()
    session: Session = root.obj
    return session


def _set(attribute: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is None:
            return
        session = session_of(ctx)
        if attribute == "timeout_s" and ctx.resilient_parsing:
            return
        if attribute == "timeout_s":
            from barque.cli.arguments import parse_duration

            session.timeout_s = parse_duration(value)
        else:
            setattr(session, attribute, value)

    return callback


def _complete_namespaces(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from barque.cli.completing import complete_names

    return complete_names(session_of(ctx), "namespaces", incomplete)


def _complete_contexts(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from barque.cli.completing import complete_contexts

    return complete_contexts(session_of(ctx), incomplete)


def complete_objects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For `shell_complete` of a verb's argument: types and the names of objects."""
    from barque.cli.completing import complete_objects

    return complete_objects(session_of(ctx), ctx.params.get(param.name or "") or (), incomplete)


def global_options() -> list[click.Option]:
    """The options that stand before a verb as well as behind it."""
    return [
        click.Option(
            ["-n", "--namespace"], metavar="NAME", expose_value=False, callback=_set("namespace_given"),
            shell_complete=_complete_namespaces,
            help="Namespace; the profile's by default.",
        ),
        click.Option(
            ["--config"], metavar="FILE", expose_value=False, callback=_set("config"),
            help="Connection profile [~/.barque/config or $BARQUE_CONFIG].",
        ),
        click.Option(
            ["--context"], metavar="NAME", expose_value=False, callback=_set("context"),
            shell_complete=_complete_contexts,
            help="Which cluster of the profile [its current context].",
        ),
        click.Option(
            ["--request-timeout"], metavar="TIME", expose_value=False, callback=_set("timeout_s"),
            help="Give up on one answer after this, as in 10s [30s].",
        ),
    ]  # fmt: skip


def session_options(command: F) -> F:
    """Give a group the options every verb understands."""
    command.__dict__.setdefault("__click_params__", []).extend(reversed(global_options()))
    return command


class Verb(click.Command):
    """A command with examples under its help. Options of the session may stand behind it as well as before."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = textwrap.dedent(examples).strip()
        self.params.extend(global_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, self._plain_flags(self._plain_shorts(args)))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # whose help it is that helps
            if hint := self._hint(error.message):
                raise click.UsageError(error.message + hint, error.ctx) from None
            raise

    def _hint(self, refusal: str) -> str:
        """For a manifest that stands where only -f takes one."""
        extra = refusal.rpartition("(")[2].removesuffix(")") if "unexpected extra argument" in refusal else ""
        takes_files = any(isinstance(p, click.Option) and not p.is_flag and "-f" in p.opts for p in self.params)
        return f"; a manifest is given with -f: `-f {extra}`" if takes_files and os.path.exists(extra) else ""

    def _plain_shorts(self, args: list[str]) -> list[str]:
        """kubectl's `-o=yaml` as click's `-o yaml`."""
        valued = {o for p in self.params if isinstance(p, click.Option) and not p.is_flag for o in p.opts}
        plain: list[str] = []
        for at, argument in enumerate(args):
            if argument == "--":
                return plain + args[at:]
            short, equals, value = argument.partition("=")
            plain += [short, value] if equals and len(short) == 2 and short in valued else [argument]
        return plain

    def _plain_flags(self, args: list[str]) -> list[str]:
        """kubectl's `--wait=false` as click's `--no-wait`, `--watch=true` as `--watch`; behind `--` nothing is ours."""
        flags = {o: p for p in self.params if isinstance(p, click.Option) and p.is_flag for o in p.opts}
        end = args.index("--") if "--" in args else len(args)
        plain: list[str] = []
        for argument in args[:end]:
            name, equals, value = argument.partition("=")
            if not equals or name not in flags or value.lower() not in ("true", "false"):
                plain.append(argument)
            elif value.lower() == "true":
                plain.append(name)
            else:
                plain += flags[name].secondary_opts[:1]
        return plain + args[end:]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            formatter.write_paragraph()
            formatter.write_heading("Examples")
            for line in self.examples.splitlines():
                formatter.write(f"  {line}\n" if line else "\n")


class CommandVerb(Verb):
    """A verb that runs a command: everything behind `--` is the command's own, options and all."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_COMMAND] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)


def command_words() -> list[str]:
    """What stood behind `--`."""
    words: list[str] = click.get_current_context().meta.get(_COMMAND, [])
    return words


class VerbGroup(click.Group):
    """A group of verbs; its help has the first sentence of each, however long that is."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(n, c.get_short_help_str(sys.maxsize)) for n, c in self.commands.items() if not c.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows, col_spacing=3)


def with_session(body: F) -> F:
    """Hand the session to a verb's function as its first argument."""

    @functools.wraps(body)
    def wrapped(**options: Any) -> Any:
        return body(session_of(click.get_current_context()), **options)

    return cast(F, wrapped)
