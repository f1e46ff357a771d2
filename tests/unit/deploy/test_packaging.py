"""What is installed is what is there: every folder with code is a declared package, every unit file verifies."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("api", "cli", "client", "deploy", "master", "network", "proto", "worker")


def test_every_folder_with_code_is_a_declared_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    present = {
        "barque." + str(file.parent.relative_to(ROOT)).replace("/", ".")
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
    }
    assert sorted(declared) == sorted(present)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_unit_files_verify() -> None:
    units = [str(path) for path in (ROOT / "deploy" / "systemd").glob("*.service")]
    assert len(units) == 2
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
