"""Volumes and files of pods, on a temporary directory and mounts on paper."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.worker.mounts import parse_mountinfo
from barque.worker.pods.env import ConfigError, Sources
from barque.worker.volumes.payloads import Held
from barque.worker.volumes.publish import FileContent, publish, read_published
from barque.worker.volumes.subpaths import EscapeError, open_inside
from barque.worker.volumes.volumes import PodVolumes
from tests.support.worker_world import FakeMounter, a_container, a_pod

CONFIG_MAP = core_v1.ConfigMap(data={"a": "1", "b": "2"}, binaryData={"c": "AAE="})
SECRET = core_v1.Secret(data={"password": "czNjcjN0"})
NOTHING = Held(Sources({}, {}))


def a_volume(name: str, **source: Any) -> core_v1.Volume:
    return core_v1.Volume(name=name, **source)


def an_empty(name: str, **fields: Any) -> core_v1.Volume:
    return a_volume(name, emptyDir=core_v1.EmptyDirVolumeSource(**fields))


def a_host_path(path: Path, kind: str = "") -> core_v1.Volume:
    return a_volume("host", hostPath=core_v1.HostPathVolumeSource(path=str(path), type=kind))


def prepared(
    tmp_path: Path, *volumes: core_v1.Volume, group: int | None = None, **found: Any
) -> tuple[PodVolumes, FakeMounter, core_v1.Pod]:
    mounter = FakeMounter()
    made = PodVolumes(tmp_path / "pods", mounter)
    mounts = [core_v1.VolumeMount(name=v.name, mountPath=f"/{v.name}") for v in volumes]
    context = core_v1.PodSecurityContext(fsGroup=group) if group is not None else None
    pod = a_pod("p", a_container(volumeMounts=mounts), volumes=list(volumes), securityContext=context)
    made.prepare(pod, "10.0.0.2", Held(Sources(found.get("config_maps", {}), found.get("secrets", {}))))
    return made, mounter, pod


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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


def test_the_group_of_a_pod_may_read_what_is_published(tmp_path: Path) -> None:
    group = os.getgid()
    assert publish(tmp_path, {"d/key": FileContent(b"k", 0o400)}, group)
    assert mode_of(tmp_path / "d/key") == 0o440
    assert mode_of(tmp_path / "..data") & 0o2050 == 0o2050
    assert mode_of(tmp_path / "..data/d") & 0o2050 == 0o2050
    assert not publish(tmp_path, {"d/key": FileContent(b"k", 0o400)}, group)


def test_secrets_and_memory_stand_in_tmpfs(tmp_path: Path) -> None:
    secret = a_volume("keys", secret=core_v1.SecretVolumeSource(secretName="s", defaultMode=0o400))
    fast = an_empty("fast", medium="Memory", sizeLimit="1Mi")
    made, mounter, pod = prepared(tmp_path, secret, fast, an_empty("disk"), secrets={"s": SECRET})
    home = tmp_path.resolve() / "pods/uid-p/volumes"
    assert mounter.mounted == {home / "keys": "mode=755,size=0", home / "fast": "mode=777,size=1048576"}
    assert (home / "keys/password").read_bytes() == b"s3cr3t"
    assert mode_of(home / "keys/..data/password") == 0o400
    made.prepare(pod, "10.0.0.2", Held(Sources({}, {"s": SECRET})))
    assert len(mounter.mounted) == 2
    made.remove("uid-p")
    assert mounter.mounted == {}
    assert made.uids() == set()
    made.remove("uid-p")


def test_a_volume_in_memory_is_no_larger_than_the_host(tmp_path: Path) -> None:
    mounter = FakeMounter()
    made = PodVolumes(tmp_path, mounter, memory_bytes=1000)
    made.prepare(
        a_pod(volumes=[an_empty("a", medium="Memory"), an_empty("b", medium="Memory", sizeLimit="10")]), "", NOTHING
    )
    assert sorted(mounter.mounted.values()) == ["mode=777,size=10", "mode=777,size=1000"]


def test_what_a_pod_did_to_its_empty_directory_stays(tmp_path: Path) -> None:
    made, _, pod = prepared(tmp_path, an_empty("disk"), group=os.getgid())
    directory = tmp_path / "pods/uid-p/volumes/disk"
    assert mode_of(directory) == 0o2777
    directory.chmod(0o700)
    made.prepare(pod, "10.0.0.2", NOTHING)
    assert mode_of(directory) == 0o700


def test_nothing_is_deleted_through_a_mount_that_stays(tmp_path: Path) -> None:
    class Stuck(FakeMounter):
        def unmount(self, path: Path) -> None: ...

    made = PodVolumes(tmp_path / "pods", Stuck())
    made.prepare(a_pod(volumes=[an_empty("fast", medium="Memory")]), "", NOTHING)
    with pytest.raises(OSError, match="cannot unmount"):
        made.remove("uid-p")
    assert (tmp_path / "pods/uid-p/volumes/fast").exists()


def test_the_hosts_file_is_not_emptied_while_the_address_is_looked_for(tmp_path: Path) -> None:
    made, _, pod = prepared(tmp_path)
    hosts = tmp_path / "pods/uid-p/etc/hosts"
    for address, shown in (("", "10.0.0.2"), ("10.0.0.3", "10.0.0.3")):
        made.prepare(pod, address, NOTHING)
        assert f"{shown}\t" in hosts.read_text()


def test_mounts_of_a_container(tmp_path: Path) -> None:
    made, _, pod = prepared(
        tmp_path,
        a_volume("settings", configMap=core_v1.ConfigMapVolumeSource(name="s")),
        an_empty("disk"),
        a_host_path(tmp_path),
        config_maps={"s": CONFIG_MAP},
    )
    pod.spec.containers[0].volumeMounts[2].mountPropagation = "HostToContainer"
    mounts = {m.target: m for m in made.mounts(pod, pod.spec.containers[0], 3)}
    assert list(mounts) == ["/etc/hosts", "/etc/resolv.conf", "/dev/termination-log", "/settings", "/disk", "/host"]
    assert mounts["/settings"].read_only
    assert not mounts["/disk"].read_only
    assert (mounts["/host"].source, mounts["/host"].read_only) == (str(tmp_path), False)
    assert (mounts["/disk"].propagation, mounts["/host"].propagation) == ("rprivate", "rslave")
    Path(mounts["/dev/termination-log"].source).write_text("bye" * 9999)
    assert len(made.message("uid-p", "web", 3)) == 4096
    assert made.message("uid-p", "web", 4) == ""


def test_the_last_words_of_long_gone_attempts_are_removed(tmp_path: Path) -> None:
    made, _, pod = prepared(tmp_path)
    for attempt in range(4):
        made.mounts(pod, pod.spec.containers[0], attempt)
    assert sorted(p.name for p in (tmp_path / "pods/uid-p/ends/web").iterdir()) == ["2", "3"]


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("Directory", "a directory"),
        ("File", "a file"),
        ("Socket", "a socket file"),
        ("CharDevice", "a character device"),
        ("BlockDevice", "a block device"),
    ],
)
def test_a_host_path_of_another_type_is_refused_in_kubernetes_words(tmp_path: Path, kind: str, what: str) -> None:
    here = tmp_path / "here"
    here.write_text("") if kind == "Directory" else here.mkdir()
    for path in (here, tmp_path / "absent"):
        with pytest.raises(ConfigError) as refused:
            prepared(tmp_path, a_host_path(path, kind))
        words = f"hostPath type check failed: {path} is not {what}"
        assert str(refused.value) == f'MountVolume.SetUp failed for volume "host" : {words}'


def test_host_paths_of_the_right_type_are_taken_or_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        for path, kind in (("/dev/null", "CharDevice"), ("file", "File"), ("s", "Socket"), (".", "Directory")):
            prepared(tmp_path, a_host_path(tmp_path / path, kind))
    for name, kind in (("d/e", "DirectoryOrCreate"), ("f", "FileOrCreate"), ("untyped", "")):
        prepared(tmp_path, a_host_path(tmp_path / name, kind))
    assert (tmp_path / "d/e").is_dir()
    assert (tmp_path / "untyped").is_dir()
    assert (tmp_path / "f").is_file()
    assert mode_of(tmp_path / "f") == 0o644


def test_a_sub_path_is_made_and_mounted_apart(tmp_path: Path) -> None:
    made, mounter, pod = prepared(tmp_path, an_empty("disk"))
    pod.spec.containers[0].volumeMounts[0].subPath = "deep/er"
    source = Path(made.mounts(pod, pod.spec.containers[0], 0)[-1].source)
    assert source == tmp_path / "pods/uid-p/subpaths/disk/web/0"
    wanted = tmp_path.resolve() / "pods/uid-p/volumes/disk/deep/er"
    assert mounter.mounted[source.resolve()] == f"bind={wanted}"
    assert mode_of(wanted) == 0o777
    # The next attempt mounts what is there by then.
    made.mounts(pod, pod.spec.containers[0], 1)
    assert len(mounter.mounted) == 1
    made.remove("uid-p")
    assert mounter.mounted == {}


@pytest.mark.parametrize("target", ["/etc", "../..", "../../../uid-p"])
def test_a_link_in_a_volume_may_not_lead_a_sub_path_out(tmp_path: Path, target: str) -> None:
    made, mounter, pod = prepared(tmp_path, an_empty("disk"))
    (tmp_path / "pods/uid-p/volumes/disk/out").symlink_to(target)
    for sub_path in ("out", "out/passwd", "out/made"):
        pod.spec.containers[0].volumeMounts[0].subPath = sub_path
        words = 'failed to prepare subPath for volumeMount "disk" of container "web"'
        with pytest.raises(ConfigError) as refused:
            made.mounts(pod, pod.spec.containers[0], 0)
        assert str(refused.value) == words
    assert mounter.mounted == {}
    assert not Path("/etc/made").exists()
    assert not (tmp_path / "pods/made").exists()


def test_no_link_is_followed_on_the_way_in(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    with open_inside(str(tmp_path), "real/deep") as handle:
        assert os.fstat(handle).st_ino == (tmp_path / "real/deep").stat().st_ino
    for path in ("link", "link/deep", "../" + tmp_path.name, "real/../real"):
        with pytest.raises((EscapeError, NotADirectoryError)), open_inside(str(tmp_path), path):
            pytest.fail(f"{path} was opened")


def test_sub_paths_in_kubernetes_words(tmp_path: Path) -> None:
    made, _, pod = prepared(tmp_path, an_empty("disk"))
    container, mount = pod.spec.containers[0], pod.spec.containers[0].volumeMounts[0]
    mount.subPathExpr = "$(POD)/logs"
    assert made.mounts(pod, container, 0, {"POD": "p"})[-1].source.endswith("/subpaths/disk/web/0")
    assert (tmp_path / "pods/uid-p/volumes/disk/p/logs").is_dir()
    with pytest.raises(ConfigError, match='missing value for "POD"'):
        made.mounts(pod, container, 0, {"POD": ""})
    with pytest.raises(ConfigError, match=r"unable to provision SubPath `\.\./logs`: must not contain '\.\.'"):
        made.mounts(pod, container, 0, {"POD": ".."})
    mount.subPathExpr, mount.subPath = "", "/etc"
    with pytest.raises(ConfigError, match="error SubPath `/etc` must not be an absolute path"):
        made.mounts(pod, container, 0)


def test_what_empty_directories_take_is_counted_on_disk_and_in_memory(tmp_path: Path) -> None:
    made, _, pod = prepared(tmp_path, an_empty("disk"), an_empty("fast", medium="Memory"))
    home = tmp_path / "pods/uid-p/volumes"
    before = made.disk_use(pod)
    (home / "disk/a").write_bytes(b"x" * 100_000)
    os.link(home / "disk/a", home / "disk/again")
    (home / "disk/out").symlink_to("/usr")
    (home / "fast/b").write_bytes(b"x" * 50_000)
    found = made.disk_use(pod)
    assert 100_000 <= found.volumes["disk"] - before.volumes["disk"] < 120_000
    assert 50_000 <= found.volumes["fast"] - before.volumes["fast"] < 60_000
    assert found.used_bytes == found.volumes["disk"]


def test_mount_points_with_escapes() -> None:
    text = "36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - tmpfs tmpfs rw\n37 35 98:0 / / rw - ext4 /dev/x rw\n"
    assert parse_mountinfo(text) == ["/mnt/a b", "/"]
