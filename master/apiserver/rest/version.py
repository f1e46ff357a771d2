"""`/version`: which Kubernetes API this is, in the words of apimachinery's `version.Info`.

Major and minor are those of the schemas that Barque's types are made of, since clients read them to learn which fields
and groups to expect; kubectl warns by them when it is more than one minor away. Barque's own version is the build
metadata behind the `+`, which semantic versioning leaves out of every comparison.
"""

from __future__ import annotations

import platform
import sys

import msgspec
from aiohttp import web

from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.apiserver.rest.documents import Document

# The schemas that `barque.api.types` is generated from.
MAJOR, MINOR, PATCH = 1, 36, 0
_NO_DATE = "1970-01-01T00:00:00Z"


def git_version(barque: str) -> str:
    """The version as clients compare it: `v1.36.0+barque-0.1.0`."""
    return f"v{MAJOR}.{MINOR}.{PATCH}+barque-{barque.replace('+', '-')}"


def version_paths(barque: str) -> dict[str, Handler]:
    """The handlers of `/version`, by path; `barque` is Barque's own version."""
    document = Document(_info(barque))

    async def handle(call: RestCall) -> web.StreamResponse:
        return document.answer(call)

    return {"/version": handle, "/version/": handle}


def _info(barque: str) -> bytes:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    major, minor = str(MAJOR), str(MINOR)
    # Built from source wherever it is installed: there is no commit, tree or date to tell.
    return msgspec.json.encode(
        {
            "major": major,
            "minor": minor,
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(MINOR - 1),
            "gitVersion": git_version(barque),
            "gitCommit": "",
            "gitTreeState": "",
            "buildDate": _NO_DATE,
            "goVersion": "",
            "compiler": f"{platform.python_implementation()} {platform.python_version()}",
            "platform": f"{sys.platform}/{machine}",
        }
    )
