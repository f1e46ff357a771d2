"""Pulling images and loading archives of them through Docker's streaming API.

Both answers are lines of JSON, of which one with `error` is a refusal, whatever the HTTP status was.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing

from barque.worker.images import names
from barque.worker.runtime import docker_streams
from barque.worker.runtime.port import Login, PullError, RuntimeFault, RuntimeUnavailableError

# Docker tells a pull's progress several times a second, but for a registry that falls silent it waits for ever.
PULL_SILENCE_S = 300.0
_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")


async def pull(host: str, reference: str, login: Login | None) -> None:
    """Pull one image. Raises `PullError` with Docker's words, `RuntimeUnavailableError`, ValueError for no name."""
    name = names.parse(reference)
    headers = {"X-Registry-Auth": _authorization(login)} if login else {}
    query = {"fromImage": f"{name.registry}/{name.path}", "tag": name.digest or name.tag}
    try:
        stream = await docker_streams.open_stream(host, "POST", "/images/create", query, headers=headers)
    except RuntimeUnavailableError:
        raise
    except RuntimeFault as error:
        raise PullError(str(error)) from error
    try:
        async with aclosing(docker_streams.json_lines(stream, silence_s=PULL_SILENCE_S)) as lines:
            async for line in lines:
                if "error" in line:
                    raise PullError(str(line["error"]))
    except TimeoutError:
        raise PullError(f"the pull made no progress for {PULL_SILENCE_S:.0f} s and was given up") from None
    except OSError as error:
        raise RuntimeUnavailableError(f"the pull's connection to Docker broke: {error}") from error
    finally:
        await stream.close()


async def load(host: str, archive: AsyncIterator[bytes], size_bytes: int) -> list[str]:
    """Load the images of a tar archive of `size_bytes`. Raises `RuntimeFault` with Docker's words."""
    stream = await docker_streams.open_upload(host, "/images/load", {"quiet": 1}, archive, size_bytes)
    loaded: list[str] = []
    try:
        async with aclosing(docker_streams.json_lines(stream, silence_s=docker_streams.UPLOAD_TIMEOUT_S)) as lines:
            async for line in lines:
                if "error" in line:
                    raise RuntimeFault(str(line["error"]))
                loaded += _LOADED.findall(line.get("stream", ""))
    except OSError as error:
        raise RuntimeUnavailableError(f"the upload's connection to Docker broke: {error}") from error
    finally:
        await stream.close()
    if not loaded:
        raise RuntimeFault("the archive holds no image: it must be one that `docker save` wrote")
    return loaded


def _authorization(login: Login) -> str:
    about = {"username": login.username, "password": login.password, "serveraddress": login.registry}
    return base64.urlsafe_b64encode(json.dumps(about).encode()).decode()
