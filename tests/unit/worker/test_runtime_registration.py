"""daemon.json gains and loses the worker's OCI runtime, and nothing else."""

import json
from pathlib import Path

import pytest

from barque.worker.runtime import registration
from barque.worker.runtime.registration import config_file, with_runtime, without_runtime

SCRIPT = Path("/var/lib/barque/worker/sandboxes/oci-runtime")


def test_into_no_file_and_out_again() -> None:
    made = with_runtime("", SCRIPT)
    assert json.loads(made) == {"runtimes": {"barque": {"path": str(SCRIPT)}}}
    assert without_runtime(made, SCRIPT) == ""


def test_beside_what_is_there_and_out_again() -> None:
    text = '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}, "log-driver": "journald"}'
    made = with_runtime(text, SCRIPT)
    assert json.loads(made)["runtimes"]["barque"] == {"path": str(SCRIPT)}
    assert json.loads(without_runtime(made, SCRIPT)) == json.loads(text)


def test_what_is_right_already_is_not_written() -> None:
    made = with_runtime("", SCRIPT)
    assert with_runtime(made, SCRIPT) is made
    assert without_runtime("{}", SCRIPT) == "{}"


def test_another_workers_runtime_stays() -> None:
    made = with_runtime("", Path("/srv/other/oci-runtime"))
    assert without_runtime(made, SCRIPT) is made


@pytest.mark.parametrize("text", ["[1]", '{"runtimes": 7}', "{", '"x"'])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Unterminated"):
        with_runtime(text, SCRIPT)


def test_the_file_is_the_one_that_dockerd_was_told() -> None:
    assert config_file([]) == registration.DAEMON_JSON
    assert config_file(["--debug", "--config-file=/srv/d.json"]) == Path("/srv/d.json")
    assert config_file(["--config-file", "/srv/d.json"]) == Path("/srv/d.json")


def test_whether_a_file_names_runtimes(tmp_path: Path) -> None:
    config = tmp_path / "daemon.json"
    assert not registration.names_runtimes(config)
    config.write_text('{"runtimes": {}}')
    assert registration.names_runtimes(config)
    config.write_text("{")
    assert not registration.names_runtimes(config)
