"""`barque config`: the clusters of the connection profile, and which of them the other verbs talk to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, VerbGroup, with_session

if TYPE_CHECKING:
    from barque.cli.session import Session
    from barque.client.profile import Contexts, Profile

OMITTED = "DATA+OMITTED"
REDACTED = "REDACTED"


class ConfigVerb(Verb):
    """A verb on the profile itself: what is wrong with that is an error of the user's, told in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        from barque.cli.output import CliError
        from barque.client.pki import PkiError
        from barque.client.profile import ProfileError

        try:
            return super().invoke(ctx)
        except (ProfileError, PkiError) as error:
            raise CliError(str(error)) from None


@click.group("config", cls=VerbGroup)
def command() -> None:
    """Show and change which clusters there are, and which one is meant."""


@command.command(
    "view",
    cls=ConfigVerb,
    examples="""
    barque config view
    barque config view --minify --raw > lab.config   to take to another machine, where `barque config import` reads it
    """,
)
@click.option("--raw", is_flag=True, help="With certificates and keys.")
@click.option("--minify", is_flag=True, help="The current context alone.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="yaml or json [yaml].")
@with_session
def view(session: Session, raw: bool, minify: bool, output: str) -> None:
    """Print the profile. Certificates are left out and keys are hidden, so that the output can be shown to others."""
    import msgspec

    from barque.cli.output import to_json
    from barque.client import profile

    contexts = _contexts(session)
    if minify:
        name = session.context or contexts.current
        contexts = profile.Contexts({name: contexts.chosen(name)}, name)
    if not raw:
        hidden = {"ca": OMITTED, "cert": OMITTED, "key": REDACTED}
        kept = {name: msgspec.structs.replace(each, **hidden) for name, each in contexts.contexts.items()}
        contexts = profile.Contexts(kept, contexts.current)
    session.screen.write(profile.render(contexts) if output == "yaml" else to_json(msgspec.to_builtins(contexts)))


@command.command("get-contexts", cls=ConfigVerb, examples="barque config get-contexts")
@click.argument("name", required=False, default="")
@click.option("-o", "--output", type=click.Choice(["name"]), help="Names alone.")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@with_session
def get_contexts(session: Session, name: str, output: str | None, no_headers: bool) -> None:
    """List the clusters of the profile; a star marks the one the other verbs talk to."""
    from barque.cli.tables import render

    contexts = _contexts(session)
    if name:
        contexts.chosen(name)
    chosen = {key: each for key, each in sorted(contexts.contexts.items()) if name in ("", key)}
    if output == "name":
        session.screen.write("".join(f"{key}\n" for key in chosen))
        return
    rows = [
        ["*" * (key == contexts.current), key, each.cluster, _user(each), each.namespace, ",".join(each.masters)]
        for key, each in chosen.items()
    ]
    headers = ["Current", "Name", "Cluster", "AuthInfo", "Namespace", "Masters"]
    session.screen.write(render(headers, rows, show_headers=not no_headers))


@command.command("current-context", cls=ConfigVerb, examples="barque config current-context")
@with_session
def current_context(session: Session) -> None:
    """Print which cluster the other verbs talk to, where --context does not say another."""
    from barque.cli.output import CliError

    current = _contexts(session).current
    if not current:
        raise CliError("current-context is not set")
    session.screen.line(current)


@command.command("use-context", cls=ConfigVerb, examples="barque config use-context lab")
@click.argument("name")
@with_session
def use_context(session: Session, name: str) -> None:
    """Make a cluster the one that the other verbs talk to."""
    contexts = _contexts(session)
    contexts.chosen(name)
    contexts.current = name
    contexts.save(_path(session))
    session.screen.line(f'Switched to context "{name}".')


@command.command(
    "set-context",
    cls=ConfigVerb,
    examples="""
    barque config set-context --current --namespace=shop      every verb means this namespace from now on
    barque config set-context lab --master=10.0.0.5,10.0.0.6
    """,
)
@click.argument("name", required=False, default="")
@click.option("--current", is_flag=True, help="The current context.")
@click.option("--master", metavar="HOST[:PORT],...", default="", help="Where its masters are.")
@with_session
def set_context(session: Session, name: str, current: bool, master: str) -> None:
    """Change a context: the namespace meant where -n says none, or where the masters are. A new cluster's context comes
    by `config import`, since it needs certificates.
    """
    from barque.cli.output import CliError
    from barque.client.profile import DEFAULT_GRPC_PORT, normal_address

    contexts = _contexts(session)
    if bool(name) == current:
        raise CliError("give the name of a context or --current")
    name = name or contexts.current
    changed = contexts.chosen(name)
    if not master and not session.namespace_given:
        raise CliError("nothing to change; give --namespace or --master")
    if session.namespace_given:
        changed.namespace = session.namespace_given
    if master:
        try:
            changed.masters = [normal_address(each, DEFAULT_GRPC_PORT) for each in master.split(",")]
        except ValueError as error:
            raise CliError(str(error)) from None
    contexts.save(_path(session))
    session.screen.line(f'Context "{name}" modified.')


@command.command("rename-context", cls=ConfigVerb, examples="barque config rename-context barque lab")
@click.argument("old")
@click.argument("new")
@with_session
def rename_context(session: Session, old: str, new: str) -> None:
    """Give a context another name."""
    from barque.cli.output import CliError

    contexts = _contexts(session)
    contexts.chosen(old)
    if new in contexts.contexts:
        raise CliError(f'cannot rename the context "{old}", the context "{new}" already exists in {_path(session)}')
    contexts.add(new, contexts.contexts.pop(old))
    contexts.current = new if contexts.current == old else contexts.current
    contexts.save(_path(session))
    session.screen.line(f'Context "{old}" renamed to "{new}".')


@command.command("delete-context", cls=ConfigVerb, examples="barque config delete-context lab")
@click.argument("name")
@with_session
def delete_context(session: Session, name: str) -> None:
    """Forget a cluster, with the key that opens it. The cluster itself stays as it is."""
    from barque.cli.output import CliError

    contexts, path = _contexts(session), _path(session)
    if name not in contexts.contexts:
        raise CliError(f"cannot delete context {name}, not in {path}")
    del contexts.contexts[name]
    if contexts.current == name:
        contexts.current = ""
        session.screen.note(
            "warning: this removed your active context, use `barque config use-context` to select another"
        )
    contexts.save(path)
    session.screen.line(f"deleted context {name} from {path}")


@command.command(
    "import",
    cls=ConfigVerb,
    examples="""
    barque config import lab.config
    barque config import lab.config --as lab --use
    """,
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "name", metavar="NAME", default="", help="What to call it here [as it is called there].")
@click.option("--use", is_flag=True, help="Make it the current context.")
@with_session
def import_(session: Session, file: Path, name: str, use: bool) -> None:
    """Take over the clusters of another profile: the one `barque master init` wrote on the master, say."""
    from barque.cli.output import CliError
    from barque.client import profile

    others = profile.load_contexts(file)
    for each in others.contexts.values():
        each.identity.check(str(file))
    if name and len(others.contexts) != 1:
        raise CliError(f"--as names one context, and {file} has {len(others.contexts)}: {', '.join(others.contexts)}")
    path = _path(session)
    contexts = _contexts(session) if path.exists() else profile.Contexts({})
    added = {name or key: each for key, each in others.contexts.items()}
    for key, each in added.items():
        contexts.add(key, each)
    if use or not contexts.current:
        contexts.current = name or others.current or next(iter(added))
    contexts.save(path)
    for key in added:
        session.screen.line(f'Context "{key}" imported.')


def _path(session: Session) -> Path:
    from barque.client.profile import default_path

    return Path(session.config).expanduser() if session.config else default_path()


def _contexts(session: Session) -> Contexts:
    from barque.client import profile

    return profile.load_contexts(_path(session))


def _user(profile: Profile) -> Any:
    """Whom the certificate names."""
    from barque.client.pki import PkiError

    try:
        return profile.identity.name
    except (PkiError, ValueError):
        return "<unknown>"
