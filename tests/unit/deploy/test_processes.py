"""A daemon is known by pid and start time, so that a pid given to someone else is never signalled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from barque.deploy import processes
from tests.support.expecting import expect_soon


def test_a_started_daemon_is_read_back_and_stopped(tmp_path: Path) -> None:
    pid_file, log = tmp_path / "run" / "d.pid", tmp_path / "log" / "d.log"
    started = processes.start([sys.executable, "-c", "input()"], pid_file, log)
    # Its standard input is empty, so it ends by itself; until it is collected its pid is nobody else's.
    daemon = processes.read_pid_file(pid_file)
    assert daemon is None or daemon.pid == started.pid
    started.wait(60)
    assert processes.read_pid_file(pid_file) is None
    assert "EOFError" in processes.last_lines(log)


def test_stop_ends_what_runs_and_removes_the_file(tmp_path: Path) -> None:
    pid_file = tmp_path / "d.pid"
    started = processes.start(["sleep", "1000"], pid_file, tmp_path / "d.log")
    assert processes.stop(pid_file)
    assert started.poll() is not None or not processes.Daemon(started.pid, 0).alive()
    assert not pid_file.exists()


def test_a_pid_that_belongs_to_another_process_is_left_alone(tmp_path: Path) -> None:
    pid_file = tmp_path / "d.pid"
    pid_file.write_text(f"{os.getpid()} 1\n")
    assert processes.read_pid_file(pid_file) is None
    assert not processes.stop(pid_file)
    assert not pid_file.exists()


def test_nonsense_in_a_pid_file_is_no_daemon(tmp_path: Path) -> None:
    pid_file = tmp_path / "d.pid"
    pid_file.write_text("one two three\n")
    assert processes.read_pid_file(pid_file) is None


def test_a_detached_daemon_has_noted_itself_when_its_command_ends(tmp_path: Path) -> None:
    pid_file, log = tmp_path / "run" / "d.pid", tmp_path / "log" / "d.log"
    script = ["sh", "-c", 'echo "words: $0"; exec sleep 1000', "with spaces"]
    subprocess.run(processes.detached(script, str(pid_file), str(log)), check=True, timeout=60)
    daemon = processes.read_pid_file(pid_file)
    assert daemon is not None
    assert os.getsid(daemon.pid) == daemon.pid
    expect_soon(lambda: processes.last_lines(log) == "words: with spaces", 60, "it has written to its log")
    processes.kill(daemon)
    assert processes.wait_gone(daemon, 60)
