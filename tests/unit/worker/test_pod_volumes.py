"""Volumes and files of pods, on a temporary directory and mounts on paper."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.worker.pods.env import ConfigError
from barque.worker.volumes import render
from barque.worker.volumes.mounts import parse_mountinfo
from barque.worker.volumes.publish import FileContent, publish, read_published
from barque.worker.volumes.volumes import PodVolumes
from tests.support.worker_world import FakeMounter, a_container, a_pod

CONFIG_MAP = core_v1.ConfigMap(data={"a": "1", "b": "2"}, binaryData={"c": "AAE="})
SECRET = core_v1.Secret(data={"password": "czNjcjN0"})


def a_volume(name: str, **source: Any) -> core_v1.Volume:
    return core_v1.Volume(name=name, **source)


def prepared(tmp_path: Path, *volumes: core_v1.Volume, **found: Any) -> tuple[PodVolumes, FakeMounter, core_v1.Pod]:
    mounter = FakeMounter()
    made = PodVolumes(tmp_path / "pods", mounter)
    mounts = [core_v1.VolumeMount(name=v.name, mountPath=f"/{v.name}") for v in volumes]
    pod = a_pod("p", a_container(volumeMounts=mounts), volumes=list(volumes))
    made.prepare(pod, "10.0.0.2", found.get("config_maps", {}), found.get("secrets", {}))
    return made, mounter, pod


def test_files_change_all_at_once(tmp_path: Path) -> None:
    assert publish(tmp_path, {"a": FileContent(b"1", 0o644), "d/e": FileContent(b"2", 0o600)})
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "d/e").read_bytes() == b"2"
    before = os.readlink(tmp_path / "..data")
    assert not publish(tmp_path, {"a": FileContent(b"1", 0o644), "d/e": FileContent(b"2", 0o600)})
    assert os.readlink(tmp_path / "..data") == before
    assert publish(tmp_path, {"a": FileContent(b"9", 0o644)})
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"9"
    # The old version is gone, only the new one and the link to it stay.
    assert len(list(tmp_path.glob("..*"))) == 2


def test_a_publication_cut_off_before_the_rename_shows_the_old_files(tmp_path: Path) -> None:
    publish(tmp_path, {"a": FileContent(b"old", 0o644)})
    half = tmp_path / "..half"
    half.mkdir()
    (half / "a").write_bytes(b"ha")
    assert read_published(tmp_path) == {"a": FileContent(b"old", 0o644)}
    publish(tmp_path, {"a": FileContent(b"new", 0o644)})
    assert not half.exists()


def test_items_choose_keys_paths_and_modes() -> None:
    items = [core_v1.KeyToPath(key="a", path="x/y", mode=0o400), core_v1.KeyToPath(key="c", path="bin")]
    files = render.config_map_files(core_v1.ConfigMapVolumeSource(name="s", items=items, defaultMode=0o600), CONFIG_MAP)
    assert files == {"x/y": FileContent(b"1", 0o400), "bin": FileContent(b"\0\1", 0o600)}


def test_missing_sources_and_keys_are_named_unless_optional() -> None:
    with pytest.raises(ConfigError, match='configmap "s" not found'):
        render.config_map_files(core_v1.ConfigMapVolumeSource(name="s"), None)
    assert render.config_map_files(core_v1.ConfigMapVolumeSource(name="s", optional=True), None) == {}
    gone = [core_v1.KeyToPath(key="z", path="z")]
    with pytest.raises(ConfigError, match='secret "s" references non-existent key: z'):
        render.secret_files(core_v1.SecretVolumeSource(secretName="s", items=gone), SECRET)


def test_secrets_and_memory_stand_in_tmpfs(tmp_path: Path) -> None:
    secret = a_volume("keys", secret=core_v1.SecretVolumeSource(secretName="s", defaultMode=0o400))
    fast = a_volume("fast", emptyDir=core_v1.EmptyDirVolumeSource(medium="Memory", sizeLimit="1Mi"))
    disk = a_volume("disk", emptyDir=core_v1.EmptyDirVolumeSource())
    made, mounter, pod = prepared(tmp_path, secret, fast, disk, secrets={"s": SECRET})
    home = tmp_path.resolve() / "pods/uid-p/volumes"
    assert mounter.mounted == {home / "keys": "mode=755,size=0", home / "fast": "mode=777,size=1048576"}
    assert (home / "keys/password").read_bytes() == b"s3cr3t"
    assert (home / "keys/..data/password").stat().st_mode & 0o777 == 0o400
    made.prepare(pod, "10.0.0.2", {}, {"s": SECRET})
    assert len(mounter.mounted) == 2
    made.remove("uid-p")
    assert mounter.mounted == {}
    assert made.uids() == set()
    made.remove("uid-p")


def test_a_missing_secret_is_told_as_a_failed_mount(tmp_path: Path) -> None:
    secret = a_volume("keys", secret=core_v1.SecretVolumeSource(secretName="s"))
    with pytest.raises(ConfigError, match=r'MountVolume\.SetUp failed for volume "keys" : secret "s" not found'):
        prepared(tmp_path, secret)


def test_what_stays_mounted_is_not_deleted(tmp_path: Path) -> None:
    class Stuck(FakeMounter):
        def unmount(self, path: Path) -> None: ...

    made = PodVolumes(tmp_path / "pods", Stuck())
    pod = a_pod(volumes=[a_volume("fast", emptyDir=core_v1.EmptyDirVolumeSource(medium="Memory"))])
    made.prepare(pod, "", {}, {})
    with pytest.raises(OSError, match="cannot unmount"):
        made.remove("uid-p")
    assert (tmp_path / "pods/uid-p/volumes/fast").exists()


def test_mounts_of_a_container(tmp_path: Path) -> None:
    made, _, pod = prepared(
        tmp_path,
        a_volume("settings", configMap=core_v1.ConfigMapVolumeSource(name="s")),
        a_volume("disk", emptyDir=core_v1.EmptyDirVolumeSource()),
        config_maps={"s": CONFIG_MAP},
    )
    mounts = {m.target: m for m in made.mounts(pod, pod.spec.containers[0], 3)}
    assert list(mounts) == ["/etc/hosts", "/etc/resolv.conf", "/dev/termination-log", "/settings", "/disk"]
    assert mounts["/settings"].read_only
    assert not mounts["/disk"].read_only
    Path(mounts["/dev/termination-log"].source).write_text("bye" * 9999)
    assert len(made.message("uid-p", "web", 3)) == 4096
    assert made.message("uid-p", "web", 4) == ""


def test_a_sub_path_may_not_lead_out(tmp_path: Path) -> None:
    made, _, pod = prepared(tmp_path, a_volume("disk", emptyDir=core_v1.EmptyDirVolumeSource()))
    mount = pod.spec.containers[0].volumeMounts[0]
    mount.subPath = "deep/er"
    assert made.mounts(pod, pod.spec.containers[0], 0)[-1].source.endswith("/disk/deep/er")
    (tmp_path / "pods/uid-p/volumes/disk/out").symlink_to("/etc")
    mount.subPath = "out"
    with pytest.raises(ConfigError, match="leads out of the volume"):
        made.mounts(pod, pod.spec.containers[0], 0)


def test_hosts_and_resolv_conf() -> None:
    text = render.hosts("10.0.0.2", "p", "sub", [core_v1.HostAlias(ip="10.9.9.9", hostnames=["x", "y"])])
    assert text.endswith("10.0.0.2\tp.sub\tp\n10.9.9.9\tx\ty\n")
    pod = a_pod(
        dnsConfig=core_v1.PodDNSConfig(
            nameservers=["9.9.9.9"], options=[core_v1.PodDNSConfigOption(name="ndots", value="2")]
        )
    )
    host = "# hi\nnameserver 10.0.0.53\nsearch lab.example\noptions ndots:1 rotate\n"
    assert render.resolv_conf(pod, host) == (
        "nameserver 10.0.0.53\nnameserver 9.9.9.9\nsearch lab.example\noptions rotate ndots:2\n"
    )
    pod.spec.dnsPolicy = "None"
    assert render.resolv_conf(pod, host) == "nameserver 9.9.9.9\noptions ndots:2\n"


def test_mount_points_with_escapes() -> None:
    text = "36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - tmpfs tmpfs rw\n37 35 98:0 / / rw - ext4 /dev/x rw\n"
    assert parse_mountinfo(text) == [Path("/mnt/a b"), Path("/")]
