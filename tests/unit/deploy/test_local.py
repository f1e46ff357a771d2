"""What `barque up` and `barque down` refuse, in one line that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from barque.deploy import dockerd
from barque.deploy.local import down, up


@pytest.mark.parametrize(("command", "word"), [(up, "barque up"), (down, "barque down")])
def test_without_root_nothing_is_begun(
    command: object, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    places = ["--data-dir", str(tmp_path / "data"), "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(command, places)  # type: ignore[arg-type]  # both are commands
    assert result.exit_code == 1
    assert f"run `sudo {word}`" in result.output
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_docker_elsewhere_is_refused() -> None:
    with pytest.raises(dockerd.DockerError, match="a worker needs its own machine's Docker, as unix:///path"):
        dockerd.socket_path("tcp://10.0.0.1:2375")


def test_a_socket_nobody_listens_on_does_not_answer(tmp_path: Path) -> None:
    assert not dockerd.answers(f"unix://{tmp_path / 'docker.sock'}")
