"""Schemathesis over our own OpenAPI documents: whatever the schemas allow, and what they do not, no call gets a 500.

Calls are spread over all operations of all groups, as many as the time allows; a failing one is said whole, so that it
can be sent again.
"""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import HypothesisException

from tests.support.expecting import expect_soon
from tests.support.rest_master import RestMaster, a_rest_master

# As long as it goes on, and until so many operations have answered, however slow the machine is.
BUDGET_S, ANSWERED = 8.0, 50
# Of each operation in one turn.
EXAMPLES = 2
# These open a stream or lead elsewhere: no schema says what to send there.
STREAMS = ("/exec", "/attach", "/portforward", "/proxy", "/log")


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with a_rest_master(tmp_path_factory.mktemp("rest")) as made:
        yield made


def operations_of(master: RestMaster) -> list[Any]:
    """Every operation of every document, streams aside."""
    index = json.loads(master.ask("/openapi/v3").body)["paths"]
    found = []
    for place, entry in index.items():
        if not place.startswith(("api/", "apis/")):
            continue
        document = json.loads(master.ask(entry["serverRelativeURL"]).body)
        schema = schemathesis.openapi.from_dict(document)
        operations = [result.ok() for result in schema.get_all_operations()]
        found += [o for o in operations if not any(word in f"{o.path}/" for word in (f"{s}/" for s in STREAMS))]
    return found


@pytest.mark.timeout(400)
def test_no_call_gets_a_500(master: RestMaster, tmp_path: Path) -> None:
    operations = operations_of(master)
    assert len(operations) > 200
    master.identity("caller", "system:masters").save(tmp_path, "caller")
    how: dict[str, Any] = {"cert": str(tmp_path / "caller.pem"), "verify": str(tmp_path / "ca.pem"), "timeout": 60}
    random.Random(8).shuffle(operations)
    ends, answered, failures = time.monotonic() + BUDGET_S, set[str](), list[str]()
    codes: dict[int, int] = {}

    def done() -> bool:
        return time.monotonic() > ends and (len(answered) > ANSWERED or time.monotonic() > ends + 60)

    def call(case: Any, session: requests.Session) -> None:
        # A watch would last for as long as it is asked to.
        for name in ("watch", "timeoutSeconds"):
            (case.query or {}).pop(name, None)
        answer = case.call(base_url=master.url, session=session, **how)
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        answered.add(case.operation.label)
        if answer.status_code >= 500:
            failures.append(f"{answer.status_code}: {case.as_curl_command()}\n{answer.text[:500]}")

    with requests.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while not done():
            for operation in operations:
                if done():
                    break
                _send(operation, lambda case: call(case, session))
    assert not failures, "\n\n".join(failures[:5])
    assert len(answered) > ANSWERED
    # It still serves, and most of what came was understood well enough to be refused in words.
    expect_soon(lambda: master.ask("/readyz").status == 200, 30, "it is ready")
    assert codes.keys() & {200, 201}
    assert "failed unexpectedly" not in master.master.log


def _send(operation: Any, call: Any) -> None:
    """A few calls of one operation."""

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def send(case: Any) -> None:
        call(case)

    try:
        send()
    except (HypothesisException, requests.exceptions.InvalidHeader, UnicodeEncodeError):
        # What cannot be made, or not be put on the wire, was never a call.
        return
