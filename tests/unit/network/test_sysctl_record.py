"""Settings are changed with their former values kept."""

from pathlib import Path

import pytest

from barque.network.sysctls import SysctlError, SysctlRecord, write_sysctl


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sys" / "net").mkdir(parents=True)
    (tmp_path / "sys" / "net" / "forward").write_text("0\n")
    return tmp_path / "sys"


def test_the_first_value_found_is_put_back_even_after_restarts(root: Path, tmp_path: Path) -> None:
    assert SysctlRecord(tmp_path / "record", root).ensure("net/forward", "1")
    assert not SysctlRecord(tmp_path / "record", root).ensure("net/forward", "1")
    (root / "net" / "forward").write_text("2")
    assert SysctlRecord(tmp_path / "record", root).ensure("net/forward", "1")
    assert SysctlRecord(tmp_path / "record", root).restore() == ["net/forward"]
    assert (root / "net" / "forward").read_text() == "0"
    assert SysctlRecord(tmp_path / "record", root).restore() == []


def test_what_was_right_already_is_left_alone(root: Path, tmp_path: Path) -> None:
    assert not SysctlRecord(tmp_path / "record", root).ensure("net/forward", "0")
    assert not (tmp_path / "record").exists()


def test_a_setting_that_cannot_be_written_is_named(root: Path) -> None:
    with pytest.raises(SysctlError, match=r"cannot set net.none.here to 1: No such file or directory"):
        write_sysctl("net/none/here", "1", root)
