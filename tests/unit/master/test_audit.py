"""The audit log: what policy wants, how it is worded, and that no request ever waits for it."""

from __future__ import annotations

import datetime
import errno
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from barque.master.audit.audit import Audit, AuditSettings, open_audit
from barque.master.audit.events import MAX_BODY_BYTES, Line, Origin
from barque.master.audit.log_file import LogFile, Rotation
from barque.master.audit.policy import METADATA_OF_ALL, Evaluation, PolicyError, read_policy
from barque.master.audit.writer import AuditWriter
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User
from tests.support.clock import FakeClock

JANE = User("jane", ("dev",), "u1", (("scopes", ("a",)),))
HEAD = b"apiVersion: audit.k8s.io/v1\nkind: Policy\n"
ORIGIN = Origin("/api/v1/namespaces/shop/secrets?x=1", "10.0.0.7", "kubectl/1.32")


class Lines:
    def __init__(self) -> None:
        self.lines: list[Line] = []

    def put(self, line: Line) -> None:
        self.lines.append(line)

    def events(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line.render()) for line in self.lines]


def an_audit(policy: bytes = b"") -> tuple[Audit, Lines, FakeClock]:
    lines, clock = Lines(), FakeClock()
    return Audit(read_policy(HEAD + policy) if policy else METADATA_OF_ALL, lines, clock, Random(1)), lines, clock


def about(verb: str, resource: str = "pods", **more: Any) -> Attributes:
    user = more.pop("user", JANE)
    return Attributes(user, verb, version="v1", resource=resource, **{"namespace": "shop", **more})


def level(policy: bytes, request: Attributes) -> str:
    return Evaluation(read_policy(HEAD + policy)).verdict(request).level


# --- policy


RULES = b"""
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
  resources: [{group: "", resources: [endpoints, services]}]
- level: None
  userGroups: ["system:authenticated"]
  nonResourceURLs: ["/api*", "/version"]
- level: Request
  resources: [{group: "", resources: [configmaps], resourceNames: [controller-leader]}]
  namespaces: [kube-system]
- level: Metadata
  resources: [{group: "", resources: [secrets, pods/log, "*/status"]}]
- level: RequestResponse
  resources: [{group: apps}]
- level: Request
  resources: [{group: "", resources: ["services/*"]}]
- level: Metadata
  namespaces: [""]
"""


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (about("watch", "services", user=User("system:kube-proxy")), "None"),
        (about("get", "services", user=User("system:kube-proxy")), "Request"),
        (about("watch", "services"), "Request"),
        (Attributes(User("x", ("system:authenticated",)), "get", path="/apis/apps"), "None"),
        (Attributes(JANE, "get", path="/apis/apps"), "None"),
        (about("get", "configmaps", namespace="kube-system", name="controller-leader"), "Request"),
        (about("get", "configmaps", namespace="kube-system", name="another"), "None"),
        (about("get", "secrets"), "Metadata"),
        (about("get", "pods"), "None"),
        (about("get", "pods", subresource="log"), "Metadata"),
        (about("update", "pods", subresource="status"), "Metadata"),
        (about("update", "services", subresource="proxy"), "Request"),
        (about("get", "deployments", group="apps", subresource="scale"), "RequestResponse"),
        (about("get", "nodes", namespace=""), "Metadata"),
    ],
)
def test_the_first_rule_that_matches_decides(request_: Attributes, wanted: str) -> None:
    assert level(RULES, request_) == wanted


def test_verdicts_are_remembered_by_what_rules_look_at() -> None:
    evaluation = Evaluation(read_policy(HEAD + RULES))
    names = ["another", "controller-leader", "another"]
    found = [evaluation.verdict(about("get", "configmaps", namespace="kube-system", name=n)).level for n in names]
    assert found == ["None", "Request", "None"]
    anyone = User("x", ("system:authenticated",))
    versions = Evaluation(read_policy(HEAD + b"rules: [{level: None, nonResourceURLs: [/version]}, {level: Metadata}]"))
    paths = [versions.verdict(Attributes(anyone, "get", path=path)).level for path in ("/version", "/x", "/version")]
    assert paths == ["None", "Metadata", "None"]
    plain = Evaluation(read_policy(HEAD + b"rules: [{level: None, resources: [{group: ''}]}, {level: Metadata}]"))
    assert [plain.verdict(r).level for r in (about("get"), Attributes(JANE, "get", path="/x"))] == ["None", "Metadata"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"kind: Pod\napiVersion: v1", "a Policy of audit.k8s.io/v1 is wanted, this is Pod of v1"),
        (HEAD, "rules: Required value: a policy without rules audits nothing"),
        (HEAD + b"rules: [{}]", "rules[0].level: Required value"),
        (HEAD + b"rules: [{level: All}]",
         'rules[0].level: Unsupported value: "All": '
         'supported values: "None", "Metadata", "Request", "RequestResponse"'),
        (HEAD + b"rules: [{level: None}, {level: None, user: [a]}]", 'unknown field "rules[1].user"'),
        (HEAD + b"rules: [{level: None, users: a}]",
         "rules[0].users: Invalid value: Expected `array`, got `str`"),
        (HEAD + b"rules: [{level: None, nonResourceURLs: [x, /a*b]}]",
         "rules[0].nonResourceURLs[0]: Invalid value: \"x\": non-resource URL rules must begin with a '/' character, "
         "rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": "
         "non-resource URL wildcards '*' must be the final character of the rule"),
        (HEAD + b"rules: [{level: None, omitStages: [Begin]}]",
         'rules[0].omitStages[0]: Invalid value: "Begin": '
         "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"),
        (HEAD + b"rules: [{level: None, resources: [{resourceNames: [a]}]}]",
         'rules[0].resources[0].resourceNames: Invalid value: ["a"]: '
         "using resourceNames requires at least one resource"),
        (HEAD + b"rules: [{level: None, resources: [{group: a}], nonResourceURLs: [/a]}]",
         'rules[0].nonResourceURLs: Invalid value: ["/a"]: '
         "rules cannot apply to both regular resources and non-resource URLs"),
    ],
)  # fmt: skip
def test_a_faulty_policy_is_refused_by_field(text: bytes, said: str) -> None:
    with pytest.raises(PolicyError, match=f"^{re.escape(said)}$"):
        read_policy(text)


# --- events


def test_an_event_says_all_of_a_request() -> None:
    audit, lines, clock = an_audit()
    call = audit.begin(about("create", "secrets"), ORIGIN)
    assert call is not None
    call.impersonated = User("bob")
    call.decided(allowed=True, reason="RBAC: allowed")
    assert clock.monotonic() == 0
    call.finish(
        201, request_body=b'{"data":{"a":"hidden"}}', response_body=b'{"metadata":{"name":"db"},"data":{"a":"hidden"}}'
    )
    call.finish(500)
    assert lines.events() == [
        {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": call.id,
            "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/secrets?x=1", "verb": "create",
            "user": {"username": "jane", "uid": "u1", "groups": ["dev"], "extra": {"scopes": ["a"]}},
            "impersonatedUser": {"username": "bob"}, "sourceIPs": ["10.0.0.7"], "userAgent": "kubectl/1.32",
            "objectRef": {"resource": "secrets", "namespace": "shop", "name": "db", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 201},
            "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
            "stageTimestamp": "2026-01-01T00:00:00.000000Z",
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC: allowed"},
        }
    ]  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}", call.id)


def test_stages_and_refusals() -> None:
    audit, lines, _ = an_audit(b"rules: [{level: Metadata}]")
    watch = audit.begin(about("watch"), ORIGIN._replace(audit_id="mine"))
    assert watch is not None
    watch.started()
    watch.finish(200)
    assert [(e["stage"], e["auditID"]) for e in lines.events()] == [
        ("RequestReceived", "mine"), ("ResponseStarted", "mine"), ("ResponseComplete", "mine"),
    ]  # fmt: skip
    forged = audit.begin(about("watch"), ORIGIN._replace(audit_id='x","level":"None'))
    assert forged is not None
    assert re.fullmatch("[0-9a-f-]{36}", forged.id)
    lines.lines.clear()
    refused = audit.begin(about("get", user=User("\ud800")), Origin("/x\ud800"))
    assert refused is not None
    refused.finish(403, 'pods is forbidden: User "x" cannot get', "Forbidden")
    event = lines.events()[1]
    assert event["responseStatus"] == {
        "metadata": {}, "status": "Failure", "message": 'pods is forbidden: User "x" cannot get', "reason": "Forbidden",
        "code": 403,
    }  # fmt: skip
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    failed = audit.begin(Attributes(JANE, "get", path="/healthz"), Origin("/healthz"))
    assert failed is not None
    failed.panicked("oh")
    failed.finish(500)
    assert lines.events()[-1]["stage"] == "Panic"
    assert "objectRef" not in lines.events()[-1]


def test_bodies_are_shown_at_their_level_alone() -> None:
    policy = b"""
rules:
- level: Request
  resources: [{group: "", resources: [secrets]}]
  omitStages: [RequestReceived]
  omitManagedFields: true
- {level: RequestResponse, omitStages: [RequestReceived]}
"""
    audit, lines, _ = an_audit(policy)
    body = b'{"metadata": {"name": "a", "managedFields": [1]},\n "data": {}}'
    for resource, request_body, response_body in (
        ("secrets", body, body), ("pods", body, body), ("pods", b"a: yaml\n", b"[" * 100_000),
        ("pods", b'"' + b"x" * MAX_BODY_BYTES + b'"', b"1"),
    ):  # fmt: skip
        call = audit.begin(about("update", resource), ORIGIN)
        assert call is not None
        call.finish(200, request_body=request_body, response_body=response_body)
    assert all(line.render().count(b"\n") == 1 for line in lines.lines)
    secret, pod, unreadable, large = lines.events()
    assert secret["requestObject"] == {"metadata": {"name": "a"}, "data": {}}
    assert "responseObject" not in secret
    assert pod["requestObject"] == pod["responseObject"] == msgspec.json.decode(body)
    assert not {"requestObject", "responseObject"} & unreadable.keys()
    assert "requestObject" not in large
    assert (large["responseObject"], large["annotations"]["audit.k8s.io/truncated"]) == (1, "true")


def test_nothing_is_recorded_where_policy_wants_nothing() -> None:
    audit, lines, _ = an_audit(b"rules: [{level: None}]")
    assert audit.begin(about("get"), ORIGIN) is None
    assert lines.lines == []


# --- the log


NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def a_line(uri: str) -> Line:
    return Line("Metadata", "id", "ResponseComplete", Origin(uri), about("get"), NOW, NOW, {})


def test_full_files_are_rotated_and_old_ones_removed(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.log"
    now = [NOW]
    log = LogFile(path, Rotation(1, 2, 1), lambda: now[0])
    third = b"x" * 350_000 + b"\n"
    for _ in range(7):
        lines = [third, third]
        while lines:
            lines = lines[log.write(lines) :]
        now[0] += datetime.timedelta(seconds=1)
    names = sorted(p.name for p in path.parent.iterdir())
    assert len(names) == 3
    assert names[-1] == "audit.log"
    assert all(re.fullmatch(r"audit-2026-01-31T12-00-0\d\.\d{3}\.log", name) for name in names[:-1])
    assert path.stat().st_mode & 0o777 == 0o600
    assert all(p.stat().st_size <= 1024 * 1024 for p in path.parent.iterdir())
    (path.parent / "audit-notes.log").write_text("mine")
    now[0] += datetime.timedelta(days=2)
    log.write([third])
    log.close()
    kept = sorted(p.name for p in path.parent.iterdir())
    assert kept == ["audit-2026-02-02T12-00-07.000.log", "audit-notes.log", "audit.log"]


def test_a_torn_line_ends_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b'{"torn":')
    log = LogFile(path, Rotation(), lambda: NOW)
    log.write([b"{}\n"])
    log.close()
    assert path.read_bytes() == b'{"torn":\n{}\n'


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.log"
    log = LogFile(path, Rotation(), lambda: NOW)
    log.write([b"{}\n"])
    real = os.write
    sizes = iter([2, 0])

    def full(fd: int, data: Any) -> int:
        size = next(sizes)
        if not size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, bytes(data)[:size])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            log.write([b'{"a":1}\n'])
    assert path.read_bytes() == b"{}\n"
    log.write([b'{"a":1}\n'])
    log.close()
    assert path.read_bytes() == b'{}\n{"a":1}\n'


class Stuck:
    """A log that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked = threading.Event()
        self.lines: list[bytes] = []

    def write(self, lines: Sequence[bytes]) -> int:
        self.asked.set()
        self.open.wait(60)
        self.lines += lines
        return len(lines)

    def close(self) -> None: ...


def test_a_slow_log_holds_nobody_up_and_losses_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = Stuck()
    writer = AuditWriter(log, max_lines=3)
    writer.start()
    for number in range(5):
        writer.put(a_line(str(number)))
    assert log.asked.wait(60)
    assert writer.counts()._replace(written=0) == (0, 2, 3, 0)
    log.open.set()
    writer.close()
    assert [msgspec.json.decode(line)["requestURI"] for line in log.lines] == ["0", "1", "2"]
    assert writer.counts() == (3, 2, 0, 0)
    assert "audit log: 2 events were lost in all" in caplog.text
    small = AuditWriter(Stuck(), max_bytes=1600)
    small.put(a_line("x" * 40))
    small.put(a_line("x" * 40))
    assert small.counts().lost == 1


class Failing:
    def __init__(self, times: int) -> None:
        self.times = times
        self.lines: list[bytes] = []

    def write(self, lines: Sequence[bytes]) -> int:
        if self.times:
            self.times -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines += lines
        return len(lines)

    def close(self) -> None: ...


def test_what_the_disk_refused_is_written_later(caplog: pytest.LogCaptureFixture) -> None:
    log = Failing(1)
    writer = AuditWriter(log)
    writer.put(a_line("a"))
    writer.start()
    writer.close()
    assert [msgspec.json.decode(line)["requestURI"] for line in log.lines] == ["a"]
    assert writer.counts() == (1, 0, 0, 1)
    assert "No space left on device" in caplog.text
    broken = AuditWriter(Failing(99))
    broken.put(a_line("a"))
    broken.start()
    broken.close()
    assert broken.counts()[:3] == (0, 1, 0)


def test_settings_open_the_log(tmp_path: Path) -> None:
    clock = FakeClock()
    assert open_audit(AuditSettings(), clock) is None
    policy = tmp_path / "policy.yaml"
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        open_audit(AuditSettings("-", policy), clock)
    policy.write_bytes(HEAD + b"rules: [{level: Meta}]")
    with pytest.raises(PolicyError, match=r"policy\.yaml is refused: rules\[0\]\.level: Unsupported value"):
        open_audit(AuditSettings("-", policy), clock)
    opened = open_audit(AuditSettings(str(tmp_path / "audit.log")), clock)
    assert opened is not None
    audit, writer = opened
    call = audit.begin(about("get", name="web"), ORIGIN)
    assert call is not None
    call.finish(404, 'pods "web" not found', "NotFound")
    writer.start()
    writer.close()
    events = [msgspec.json.decode(line) for line in (tmp_path / "audit.log").read_bytes().splitlines()]
    assert [(e["stage"], e["responseStatus"]["code"], e["objectRef"]["name"]) for e in events] == [
        ("ResponseComplete", 404, "web")
    ]
