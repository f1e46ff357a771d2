"""Archives for `cp`: what is packed comes out again, and nothing lands outside the target."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from barque.cli.archives import ArchiveError, pack, unpack


def an_archive(*entries: tuple[str, Any]) -> io.BytesIO:
    """Entries by name: bytes for a file, a text for a symbolic link, None for a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size, entry.mode = len(content), 0o640
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    buffer.seek(0)
    return buffer


def unpacked(archive: io.BytesIO, source: str, target: Path, **options: Any) -> list[str]:
    """The warnings."""
    warnings: list[str] = []
    unpack(archive, source, target, warnings.append, **options)
    return warnings


def below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_directory_goes_round(tmp_path: Path) -> None:
    source = tmp_path / "site"
    (source / "css").mkdir(parents=True)
    (source / "index.html").write_bytes(b"<h1>")
    (source / "css" / "a.css").write_bytes(b"x" * 200_000)
    (source / "css" / "a.css").chmod(0o600)
    (source / "empty").mkdir()
    os.mkfifo(source / "pipe")
    buffer = io.BytesIO()
    pack(source, "srv/site", buffer)
    buffer.seek(0)
    assert unpacked(buffer, "/srv/site/", tmp_path / "copy") == []
    assert below(tmp_path / "copy") == {"css/a.css": b"x" * 200_000, "index.html": b"<h1>"}
    assert (tmp_path / "copy" / "empty").is_dir()
    assert (tmp_path / "copy" / "css" / "a.css").stat().st_mode & 0o777 == 0o600


def test_a_single_file_becomes_the_target(tmp_path: Path) -> None:
    archive = an_archive(("etc/app/one.conf", b"1"))
    assert unpacked(archive, "/etc/app/one.conf", tmp_path / "here.conf") == []
    assert (tmp_path / "here.conf").read_bytes() == b"1"
    assert (tmp_path / "here.conf").stat().st_mode & 0o777 == 0o640


def test_modes_are_left_out_when_asked_to(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        unpacked(an_archive(("a", b"1")), "a", tmp_path / "a", keep_modes=False)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "name", ["../evil", "dir/../../evil", "/etc/evil", "other/evil", "dirx/evil", "dir/../../tmp/evil"]
)
def test_nothing_lands_outside_the_target(tmp_path: Path, name: str) -> None:
    target = tmp_path / "in" / "target"
    target.mkdir(parents=True)
    warnings = unpacked(an_archive(("dir/good", b"1"), (name, b"2")), "dir", target)
    assert warnings == [f"warning: file {name!r} is outside target destination, skipping"]
    assert below(tmp_path) == {"in/target/good": b"1"}


def test_links_of_the_archive_are_left_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = an_archive(("dir/way", str(outside)), ("dir/way/evil", b"2"), ("dir/good", b"1"))
    warnings = unpacked(archive, "dir", tmp_path / "target")
    assert warnings == [f"warning: skipping symlink: 'dir/way' -> {str(outside)!r}"]
    assert below(tmp_path) == {"target/good": b"1", "target/way/evil": b"2"}


def test_links_that_are_here_already_are_not_followed_out(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (outside / "file").write_bytes(b"kept")
    (target / "way").symlink_to(outside)
    (target / "leaf").symlink_to(outside / "file")
    warnings = unpacked(an_archive(("dir/way/evil", b"2")), "dir", target)
    assert warnings == ["warning: file 'dir/way/evil' is outside target destination, skipping"]
    with pytest.raises(OSError, match="leaf"):
        unpacked(an_archive(("dir/leaf", b"2")), "dir", target)
    assert below(outside) == {"file": b"kept"}


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        unpacked(io.BytesIO(b"tar: no such file\n" * 100), "dir", tmp_path / "t")
    cut = an_archive(("dir/a", b"x" * 100_000)).getvalue()[:50_000]
    with pytest.raises(ArchiveError):
        unpacked(io.BytesIO(cut), "dir", tmp_path / "t")
