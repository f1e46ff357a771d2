"""What README, docs and help tell of the command holds: every line of theirs parses, every option and link exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from barque.cli.main import cli

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Options of other programs that the pages speak of.
FOREIGN = {
    "--apiserver-cert-extra-sans", "--fail-on-flaky", "--kubeconfig", "--max-request-bytes", "--no-deps", "--noflush",
    "--quota-backend-bytes", "--reruns",
}  # fmt: skip
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Where a line's command ends and what is said about it begins.
REMARK = re.compile(r"\s{3,}")
PROMPT = re.compile(r"^(?:\w*[#$]|\^C\w+ \w+ \w+:|sudo)\s+")
BESIDE = re.compile(r"\s{3,}(?=barque )")


def commands(at: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, at
    if isinstance(at, click.Group):
        context = click.Context(at, info_name="barque")
        for name in at.list_commands(context):
            below = at.get_command(context, name)
            assert below is not None, name
            yield from commands(below, (*path, name))


EVERY = list(commands())
VERBS = [(path, command) for path, command in EVERY if not isinstance(command, click.Group)]


def words_of(line: str) -> list[str]:
    """A shown command line as its words, "" and what follows a pipe or a redirection left out."""
    words = shlex.split(REMARK.split(line)[0].replace("…", "x"), comments=True)
    ends = [at for at, word in enumerate(words) if word in ("|", ">", "<", "&&")]
    return words[: min(ends, default=len(words))]


def parse(line: str) -> None:
    """Parse as the command itself would, without running it; "…" may stand for what is required. Raises
    `click.UsageError`.
    """
    context = cli.make_context("barque", words_of(line)[1:])
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        if isinstance(command, click.Group) and not rest:
            return
        try:
            context = command.make_context(name, rest, parent=context)
        except click.MissingParameter:
            if "…" not in line:
                raise
            return


def misfits(text: str) -> dict[str, str]:
    """What is wrong with which command lines of a page's block or a help text."""
    found = {}
    for line in shown(text):
        try:
            parse(line)
        except click.UsageError as error:
            found[line] = error.format_message()
    return found


def shown(text: str) -> Iterator[str]:
    """The command lines in the code blocks of a page or a help text."""
    for line in text.replace("\\\n", " ").splitlines():
        plain = PROMPT.sub("", PROMPT.sub("", line.strip()))
        yield from (part for part in BESIDE.split(plain) if re.match(r"barque [a-z-]+", part))


def examples(command: click.Command) -> str:
    """What stands under "Examples:" in its help."""
    return getattr(command, "examples", "") or (command.help or "").partition("Examples:")[2]


@pytest.mark.parametrize(("path", "command"), VERBS, ids=[" ".join(path) for path, _ in VERBS])
def test_the_examples_of_the_help_parse(path: tuple[str, ...], command: click.Command) -> None:
    assert f"barque {' '.join(path)}" in examples(command)
    assert misfits(examples(command)) == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_parse(page: Path) -> None:
    for block in FENCE.findall(page.read_text()):
        found = misfits(block)
        assert [line for line in found if "──" not in line] == [], found  # but arrows of a drawing


def test_every_option_that_a_page_names_exists() -> None:
    known = {name for _, command in EVERY for each in command.params for name in (*each.opts, *each.secondary_opts)}
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text()))
        assert named - known - FOREIGN - {"--help"} == set(), page.name


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
