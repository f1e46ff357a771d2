"""`barque get`: tables, documents, templates, and following changes across a break."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from barque.master.store.port import StoreUnavailableError
from tests.support.builders import DeploymentBuilder, PodBuilder, ServiceBuilder
from tests.support.registry_cluster import RegistryCluster, run


def a_pod(name: str, namespace: str = "default") -> PodBuilder:
    return PodBuilder(name, namespace).on("n1").ready().ip("10.244.0.5")


def two_pods() -> RegistryCluster:
    return RegistryCluster(
        a_pod("web-1").labelled(app="web").build(),
        PodBuilder("db-with-a-long-name", "default")
        .labelled(app="db", tier="back")
        .waiting("ImagePullBackOff")
        .build(),
    )


def test_a_table_is_aligned_as_kubectl_does_it() -> None:
    result = run(two_pods(), "get", "pods")
    assert result.stdout == (
        "NAME                  READY   STATUS             RESTARTS   AGE\n"
        "db-with-a-long-name   0/1     ImagePullBackOff   0          0s\n"
        "web-1                 1/1     Running            0          0s\n"
    )
    assert result.exit_code == 0


def test_rows_are_made_by_the_master() -> None:
    cluster = two_pods()
    run(cluster, "get", "pods")
    run(cluster, "get", "pod", "web-1", "-o", "name")
    assert cluster.verbs_called() == ["table", "table"]


def test_wide_adds_columns() -> None:
    result = run(two_pods(), "get", "po", "web-1", "-o", "wide")
    assert result.stdout == (
        "NAME    READY   STATUS    RESTARTS   AGE   IP           NODE   NOMINATED NODE   READINESS GATES\n"
        "web-1   1/1     Running   0          0s    10.244.0.5   n1     <none>           <none>\n"
    )


def test_all_namespaces_labels_and_label_columns() -> None:
    cluster = two_pods()
    cluster.put(a_pod("web-1", "shop").build())
    result = run(cluster, "get", "pods", "-A", "--show-labels", "-L", "tier", "--no-headers")
    assert result.stdout.splitlines() == [
        "default   db-with-a-long-name   0/1   ImagePullBackOff   0     0s    back   app=db,tier=back",
        "default   web-1                 1/1   Running            0     0s           app=web",
        "shop      web-1                 1/1   Running            0     0s           <none>",
    ]


def test_selectors_choose() -> None:
    assert run(two_pods(), "get", "pods", "-l", "app=web", "-o", "name").stdout == "pod/web-1\n"
    assert run(two_pods(), "get", "pods", "-l=app=web", "-o=name").stdout == "pod/web-1\n"
    chosen = run(two_pods(), "get", "pods", "--field-selector", "spec.nodeName=n1", "-o", "name")
    assert chosen.stdout == "pod/web-1\n"


def test_nothing_found_is_said_on_standard_error() -> None:
    empty = run(RegistryCluster(), "get", "pods")
    assert (empty.stdout, empty.stderr, empty.exit_code) == ("", "No resources found in default namespace.\n", 0)
    assert run(RegistryCluster(), "get", "pods", "-n", "shop").stderr == "No resources found in shop namespace.\n"
    assert run(RegistryCluster(), "-n", "shop", "get", "pods").stderr == "No resources found in shop namespace.\n"
    assert run(RegistryCluster(), "get", "pods", "-A").stderr == "No resources found\n"
    assert run(RegistryCluster(), "get", "nodes").stderr == "No resources found\n"
    assert run(RegistryCluster(), "get", "pods", "--ignore-not-found").stderr == ""


def test_a_missing_name_is_an_error_but_the_others_are_shown() -> None:
    result = run(two_pods(), "get", "pods", "web-1", "gone")
    assert result.stdout.splitlines()[1].startswith("web-1")
    assert result.stderr == 'Error from server (NotFound): pods "gone" not found\n'
    assert result.exit_code == 1
    ignored = run(two_pods(), "get", "pods", "gone", "--ignore-not-found")
    assert (ignored.stdout, ignored.stderr, ignored.exit_code) == ("", "", 0)


def test_several_types_in_blocks_with_typed_names() -> None:
    cluster = RegistryCluster(
        a_pod("web-1").build(),
        ServiceBuilder("web", "default").cluster_ip("10.96.0.7").port(80).build(),
        DeploymentBuilder("web", "default").replicas(1).has(1, ready=1, available=1).build(),
    )
    result = run(cluster, "get", "all")
    assert result.stdout == (
        "NAME        READY   STATUS    RESTARTS   AGE\n"
        "pod/web-1   1/1     Running   0          0s\n"
        "\n"
        "NAME          TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n"
        "service/web   ClusterIP   10.96.0.7    <none>        80/TCP    0s\n"
        "\n"
        "NAME                  READY   UP-TO-DATE   AVAILABLE   AGE\n"
        "deployment.apps/web   1/1     0            1           0s\n"
    )
    slashed = run(cluster, "get", "svc/web", "deploy/web", "-o", "name")
    assert slashed.stdout == "service/web\ndeployment.apps/web\n"
    assert "pod/web-1" in run(cluster, "get", "pods", "--show-kind").stdout


def test_documents() -> None:
    one = run(two_pods(), "get", "pod", "web-1", "-o", "yaml")
    assert yaml.safe_load(one.stdout)["metadata"]["name"] == "web-1"
    assert one.stdout.startswith("apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: ")
    assert "  containers:\n  - image: web:1\n" in one.stdout
    many = json.loads(run(two_pods(), "get", "pods", "-o", "json").stdout)
    assert (many["kind"], len(many["items"])) == ("List", 2)
    assert run(two_pods(), "get", "pods", "-o", "json").stdout.startswith(
        '{\n    "apiVersion": "v1",\n    "items": [\n'
    )
    assert json.loads(run(RegistryCluster(), "get", "pods", "-o", "json").stdout)["items"] == []


def test_managed_fields_are_shown_only_where_they_are_asked_for() -> None:
    owned = [{"manager": "someone", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}]
    metadata = {"name": "a", "namespace": "default", "managedFields": owned}
    cluster = RegistryCluster({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    assert "managedFields" not in run(cluster, "get", "cm", "a", "-o", "yaml").stdout
    assert "managedFields" not in run(cluster, "get", "cm", "-o", "json").stdout
    shown = run(cluster, "get", "cm", "a", "-o", "yaml", "--show-managed-fields").stdout
    assert yaml.safe_load(shown)["metadata"]["managedFields"][0]["manager"] == "someone"


def test_jsonpath() -> None:
    cluster = two_pods()
    each = '{range .items[*]}{.metadata.name}{"\\t"}{.spec.nodeName}{"\\n"}{end}'
    assert run(cluster, "get", "pods", "-o", f"jsonpath={each}").stdout == "db-with-a-long-name\t\nweb-1\tn1\n"
    assert run(cluster, "get", "pod", "web-1", "-o=jsonpath={.status.podIP}").stdout == "10.244.0.5"
    as_json = run(cluster, "get", "pods", "-o", "jsonpath-as-json={.items[*].spec.nodeName}").stdout
    assert json.loads(as_json) == ["n1"]


def test_templates_and_columns_from_files(tmp_path: Path) -> None:
    template, columns = tmp_path / "template", tmp_path / "columns"
    template.write_text("{.metadata.name}!\n")
    columns.write_text("WHO WHERE\n.metadata.name .spec.nodeName\n")
    assert run(two_pods(), "get", "pod", "web-1", "-o", f"jsonpath-file={template}").stdout == "web-1!\n"
    assert run(two_pods(), "get", "pod", "web-1", "-o", f"custom-columns-file={columns}").stdout == (
        "WHO     WHERE\nweb-1   n1\n"
    )


def test_custom_columns() -> None:
    spec = "Name:.metadata.name,NODE:.spec.nodeName,IMAGES:.spec.containers[*].image"
    assert run(two_pods(), "get", "pods", "-o", f"custom-columns={spec}").stdout == (
        "Name                  NODE     IMAGES\n"
        "db-with-a-long-name   <none>   web:1\n"
        "web-1                 n1       web:1\n"
    )
    assert run(two_pods(), "get", "pods", "-o", "custom-columns=N:.metadata.name", "--no-headers").stdout == (
        "db-with-a-long-name\nweb-1\n"
    )


def test_in_the_order_of_a_field() -> None:
    cluster = RegistryCluster(*(PodBuilder(f"web-{n}", "default").build() for n in (10, 9, 2)))
    for output in ("", "-o=name", "-o=jsonpath={.items[*].metadata.name}"):
        shown = run(cluster, "get", "pods", "--sort-by=.metadata.name", *([output] if output else [])).stdout
        assert shown.index("web-2") < shown.index("web-9") < shown.index("web-10")
    nothing = run(cluster, "get", "pods", "--sort-by=.spec.nothing")
    assert (nothing.stdout, nothing.exit_code) == ("", 1)
    assert nothing.stderr == 'error: couldn\'t find any field with path "{.spec.nothing}" in the list of objects\n'


def test_long_lists_come_in_pages_of_one_revision() -> None:
    cluster = RegistryCluster(*(PodBuilder(f"web-{n}", "default").build() for n in range(5)))
    assert len(run(cluster, "get", "pods", "--chunk-size=2", "--no-headers").stdout.splitlines()) == 5
    assert len(json.loads(run(cluster, "get", "pods", "--chunk-size=2", "-o", "json").stdout)["items"]) == 5
    assert cluster.verbs_called() == ["table"] * 3 + ["list"] * 3
    cluster.calls.clear()
    run(cluster, "get", "pods", "--chunk-size=0")
    assert cluster.verbs_called() == ["table"]


def test_the_objects_of_a_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(
        "kind: Pod\napiVersion: v1\nmetadata: {name: web-1}\n---\nkind: Node\napiVersion: v1\nmetadata: {name: n9}\n"
    )
    result = run(two_pods(), "get", "-f", str(manifest), "-o", "name")
    assert result.stdout == "pod/web-1\n"
    assert result.stderr == 'Error from server (NotFound): nodes "n9" not found\n'


def test_subresources() -> None:
    web = DeploymentBuilder("web", "default").replicas(3).has(2, ready=1, available=1).build()
    cluster = RegistryCluster(web)
    assert run(cluster, "get", "deploy", "web", "--subresource=scale").stdout == (
        "NAME   DESIRED   AVAILABLE   AGE\nweb    3         2           0s\n"
    )
    scale = json.loads(run(cluster, "get", "deploy", "web", "--subresource=scale", "-o", "json").stdout)
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 3})
    assert run(cluster, "get", "deploy/web", "--subresource=status", "-o", "name").stdout == "deployment.apps/web\n"


# --- following


def test_watch_prints_rows_as_they_change_and_ctrl_c_ends_it_with_130() -> None:
    cluster = RegistryCluster(a_pod("web-1").build())
    cluster.on_idle = [
        lambda: cluster.put(PodBuilder("web-2", "default").build()),
        lambda: cluster.put(a_pod("web-2").build()),
        lambda: cluster.remove("pods", "web-1"),
    ]
    result = run(cluster, "get", "pods", "-w")
    assert result.stdout == (
        "NAME    READY   STATUS    RESTARTS   AGE\n"
        "web-1   1/1     Running   0          0s\n"
        "web-2   0/1     Pending   0          0s\n"
        "web-2   1/1     Running   0          0s\n"
        "web-1   1/1     Running   0          0s\n"
    )
    assert result.exit_code == 130


def test_each_change_says_what_it_is() -> None:
    def cluster() -> RegistryCluster:
        made = RegistryCluster(a_pod("web-1").build())
        made.on_idle = [lambda: made.put(a_pod("web-2").build()), lambda: made.remove("pods", "web-1")]
        return made

    result = run(cluster(), "get", "pods", "-w", "--output-watch-events", "--no-headers")
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["ADDED", "web-1"],
        ["ADDED", "web-2"],
        ["DELETED", "web-1"],
    ]
    headed = run(cluster(), "get", "pods", "-w", "--output-watch-events").stdout.splitlines()
    assert {line.find("web-") for line in headed[1:]} == {headed[0].find("NAME")} == {len("MODIFIED   ")}
    only = run(cluster(), "get", "pods", "--watch-only", "--output-watch-events", "-o", "yaml")
    shown = [(each["type"], each["object"]["metadata"]["name"]) for each in yaml.safe_load_all(only.stdout)]
    assert shown == [("ADDED", "web-2"), ("DELETED", "web-1")]


def test_watching_by_template_and_columns() -> None:
    cluster = RegistryCluster(a_pod("web-1").build())
    cluster.on_idle = [lambda: cluster.put(a_pod("web-2").build())]
    assert run(cluster, "get", "pods", "-w", "-o", 'jsonpath={.metadata.name}{"\\n"}').stdout == "web-1\nweb-2\n"
    cluster.on_idle = [lambda: cluster.put(a_pod("web-3").build())]
    columns = run(cluster, "get", "pods", "-w", "-o", "custom-columns=N:.metadata.name").stdout
    assert columns == "N\nweb-1\nweb-2\nweb-3\n"


def test_watch_goes_on_after_the_master_was_away_without_a_gap_and_without_listing_again() -> None:
    cluster = RegistryCluster(a_pod("web-1").build())

    def away() -> None:
        cluster.put(a_pod("web-2").build())
        cluster.break_watches()

    cluster.on_idle = [away, lambda: cluster.put(a_pod("web-3").build())]
    result = run(cluster, "get", "pods", "-w", "-o", "name")
    assert result.stdout == "pod/web-1\npod/web-2\npod/web-3\n"
    assert cluster.verbs_called() == ["table", "watch", "watch"]


def test_watch_begins_anew_only_where_the_history_is_gone() -> None:
    cluster = RegistryCluster(a_pod("web-1").build())

    def gone() -> None:
        cluster.put(a_pod("web-2").build())
        cluster.compact()

    cluster.on_idle = [gone]
    result = run(cluster, "get", "pods", "-w", "-o", "name")
    assert result.stdout == "pod/web-1\npod/web-1\npod/web-2\n"


def test_watch_of_one_object() -> None:
    cluster = two_pods()
    cluster.on_idle = [
        lambda: cluster.put(a_pod("web-9").build()),
        lambda: cluster.put(a_pod("web-1").labelled(app="web", new="1").build()),
    ]
    assert run(cluster, "get", "pod", "web-1", "-w", "-o", "name").stdout == "pod/web-1\npod/web-1\n"
    missing = run(RegistryCluster(), "get", "pod", "gone", "-w")
    assert missing.stderr == 'Error from server (NotFound): pods "gone" not found\n'
    assert missing.exit_code == 1


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["pods", "-o", "table"],
            'unable to match a printer suitable for the output format "table", allowed formats are: '
            "custom-columns,custom-columns-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,wide,yaml\n",
        ),
        (["pods", "-o", "go-template={{.}}"], "Go templates are not understood here; -o jsonpath=... has loops"),
        (["pods", "-o", "jsonpath"], "template format specified but no template given\n"),
        (["pods", "-o", "jsonpath={.items"], "error parsing jsonpath {.items, unclosed action\n"),
        (
            ["pods", "-o", "jsonpath={.items[3]}"],
            'error executing jsonpath "{.items[3]}": array index out of bounds: index 3, length 0\n',
        ),
        (["pods", "-o", "custom-columns"], "custom-columns format specified but no custom columns given\n"),
        (["pods", "-o", "jsonpath-file=/none"], "error reading template /none, [Errno 2]"),
        (["pods", "a", "-l", "x=y"], "name cannot be provided when a selector is specified\n"),
        (["pods", "a", "-A"], "a resource cannot be retrieved by name across all namespaces\n"),
        (["pods,svc", "-w"], "watch is only supported on individual resources and resource collections - more than 1"),
        (["pods", "--output-watch-events"], "--output-watch-events option can only be used with --watch or"),
        (["pods", "a", "--subresource=x"], 'invalid subresource value: "x". Must be one of [status scale]\n'),
        (["cm", "a", "--subresource=scale"], "configmaps have no subresource scale\n"),
        (["deploy", "--subresource=scale"], "--subresource shows one object at a time: give its name\n"),
        (["pod/a", "b"], "'b' is not type/name;"),
        (["widgets"], 'the server doesn\'t have a resource type "widgets"'),
        ([], "say which resource type, as in `barque get pods`; `barque api-resources` lists them\n"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str) -> None:
    result = run(RegistryCluster(), "get", *arguments)
    assert (result.stdout, result.exit_code) == ("", 1)
    assert result.stderr.startswith(f"error: {words}")


def test_near_names_are_suggested() -> None:
    assert "did you mean pod" in run(RegistryCluster(), "get", "pood").stderr


@pytest.mark.parametrize("what", [("pods",), ("pods", "-o", "name"), ("pod", "web-1"), ("pod/web-1", "-o", "yaml")])
def test_without_a_quorum_only_stale_reads_answer(what: tuple[str, ...]) -> None:
    cluster = two_pods()
    cluster.bench.store.failure = StoreUnavailableError("no leader: 1 of 3 masters answer")
    refused = run(cluster, "get", *what)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        "Error from server (ServiceUnavailable): no leader: 1 of 3 masters answer; `barque cluster status` shows why, "
        "`barque get --stale` what one master still knows\n"
    )
    stale = run(cluster, "get", *what, "--stale")
    assert (stale.exit_code, stale.stderr) == (0, "")
    assert "web-1" in stale.stdout


def test_stale_reads_go_on_from_page_to_page() -> None:
    cluster = two_pods()
    cluster.bench.store.failure = StoreUnavailableError("no leader: 1 of 3 masters answer")
    stale = run(cluster, "get", "pods", "--stale", "--chunk-size", "1", "-o", "name")
    assert stale.stdout == "pod/db-with-a-long-name\npod/web-1\n"
