"""The sandbox's program and image, byte by byte where it matters."""

from __future__ import annotations

import io
import json
import struct
import tarfile

import pytest

from barque.worker.runtime import pause


@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 62), ("arm64", 183)])
def test_the_program_is_a_static_executable(architecture: str, machine: int) -> None:
    program = pause.program(architecture)
    assert program[:7] == b"\x7fELF\x02\x01\x01"
    kind, found, _, entry = struct.unpack_from("<HHIQ", program, 16)
    assert (kind, found, entry) == (2, machine, 0x400000 + 120)
    kind, flags, offset, address, _, in_file, in_memory, _ = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (kind, flags, offset, address, in_file, in_memory) == (1, 5, 0, 0x400000, len(program), len(program))
    # Ignore SIGCHLD with SA_NOCLDWAIT; wait for SIGINT and SIGTERM.
    assert struct.unpack("<5Q", program[-40:]) == (1, 2, 0, 0, 0x4002)
    assert len(program) < 300


def test_the_arm64_program_points_at_its_data() -> None:
    """The three `adr` instructions, decoded as the architecture manual has them."""
    program = pause.program("arm64")
    code = struct.unpack(f"<{(len(program) - 120 - 40) // 4}I", program[120:-40])
    targets = []
    for at, word in enumerate(code):
        if word >> 24 & 0x9F == 0x10:
            targets.append(120 + 4 * at + (((word >> 5 & 0x7FFFF) << 2) | (word >> 29 & 3)))
    data_at = len(program) - 40
    assert targets == [data_at, data_at + 32, data_at + 32]


def test_the_image_is_always_the_same_and_its_tag_follows_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    image = pause.image("amd64")
    assert image == pause.image("amd64")
    assert image.tag.startswith("barque/pause:1-")
    monkeypatch.setattr(pause, "_DATA", pause._DATA[:-1] + b"\x01")
    assert pause.image("amd64").tag != image.tag


def test_the_archive_is_what_docker_load_takes() -> None:
    image = pause.image("arm64")
    with tarfile.open(fileobj=io.BytesIO(image.archive)) as archive:
        (manifest,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        config = json.loads(archive.extractfile(manifest["Config"]).read())  # type: ignore[union-attr]
        layer = archive.extractfile(manifest["Layers"][0]).read()  # type: ignore[union-attr]
    assert manifest["RepoTags"] == [image.tag]
    assert (config["architecture"], config["config"]["Entrypoint"]) == ("arm64", ["/pause"])
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        assert files.getmember("pause").mode == 0o755


def test_other_machines_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no sandbox program for riscv64; it runs on amd64 and arm64"):
        pause.program("riscv64")
