"""What is remembered of a lab survives, is never half written, and is changed by one command at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from barque.deploy.lab import host as hosts
from barque.deploy.lab import plan, state
from barque.deploy.lab.command import lab
from barque.deploy.lab.lab import Lab
from barque.deploy.lab.plan import LabError
from barque.deploy.processes import start_ticks
from barque.deploy.progress import Report


def a_state() -> state.LabState:
    return state.of_plan(plan.plan_hosts(1, 2))


def test_a_lab_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = a_state()
    made.cuts, made.host("w1").pid, made.door = [("w1", "w2"), ("m1", "")], 77, 7443
    state.save(tmp_path, made)
    assert state.load(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_where_there_is_none(tmp_path: Path) -> None:
    assert state.load(tmp_path) is None
    assert state.load(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"version": 2, "hosts": []}', "is of version 2, this barque reads 1: use the barque that made it"),
        ("{", "is damaged: "),
        ('{"version": 1}', "is damaged: Object missing required field `hosts`"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(LabError) as refused:
        state.load(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'state.json'} {words}")


def test_a_host_is_alive_as_long_as_its_first_process_is_the_same(tmp_path: Path) -> None:
    host = a_state().host("w1")
    assert not host.alive
    host.pid, host.started_ticks = os.getpid(), start_ticks(os.getpid()) or 0
    assert host.alive
    # The pid is someone else's by now.
    host.started_ticks -= 1
    assert not host.alive


def test_names_that_are_none_are_refused_with_those_that_are() -> None:
    with pytest.raises(LabError, match='no host "w9" in this lab; there are m1, w1, w2'):
        a_state().host("w9")


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with (
        state.held(tmp_path / "lab"),
        pytest.raises(LabError, match="another `barque lab` is at work on"),
        state.held(tmp_path / "lab"),
    ):
        pass
    with state.held(tmp_path / "lab"):
        assert (tmp_path / "lab").is_dir()


def test_a_lab_cut_off_before_it_was_remembered_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hosts, "missing", lambda: "")
    cut_off, other = tmp_path / "cut-off", tmp_path / "other"
    for directory, left in ((cut_off, ".state.json.new"), (other, "letters")):
        directory.mkdir()
        (directory / left).write_text("{")
    assert not Lab(cut_off, Report()).down(keep=False)
    assert not cut_off.exists()
    with pytest.raises(LabError, match="is no lab's directory: it is left as it is"):
        Lab(other, Report()).down(keep=False)
    assert (other / "letters").exists()


def test_without_root_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(lab, ["--dir", str(tmp_path / "lab"), "up"])
    assert (result.exit_code, "only root may make: run it with sudo" in result.output) == (1, True)
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("command", [["status"], ["exec", "w1", "--", "true"]])
def test_without_a_lab_that_is_said(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(lab, ["--dir", str(tmp_path / "lab"), *command])
    assert result.output == f"Error: no lab in {tmp_path / 'lab'}: `barque lab up` makes one\n"
    assert not (tmp_path / "lab").exists()
