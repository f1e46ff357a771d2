"""What a master's data directory remembers of the etcd that has its cluster's state: `etcd.json`.

Started without `--store etcd`, or with another prefix, a master would find nothing and found a second, empty cluster in
the place of its own. So it remembers where it was, from its first start on, and refuses to begin elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from barque.client.pki import write_private
from barque.master.raft.errors import StoreStartError

FILE = "etcd.json"
# What Raft has in its directory from its first start on.
_RAFT = ("store", "identity")


class Place(msgspec.Struct, frozen=True):
    """`endpoints` as they were at the last start; they may change, the cluster must not."""

    cluster_id: str
    endpoints: tuple[str, ...]
    prefix: str


def remembered(data_dir: Path) -> Place | None:
    """None where no master on etcd has been started here. Raises `StoreStartError`."""
    try:
        return msgspec.json.decode((data_dir / FILE).read_bytes(), type=Place)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as e:
        raise StoreStartError(f"cannot read {data_dir / FILE}: {e}") from e


def remember(data_dir: Path, place: Place) -> None:
    """Blocks; raises `OSError`."""
    if remembered(data_dir) != place:
        write_private(data_dir / FILE, msgspec.json.format(msgspec.json.encode(place)))


def refuse_raft(data_dir: Path) -> None:
    """Raise `StoreStartError` where this master's cluster is in etcd."""
    place = remembered(data_dir)
    if place is not None:
        raise StoreStartError(
            f"this master's state is in etcd: start it with --store etcd --etcd-endpoints {','.join(place.endpoints)} "
            f"--etcd-prefix {place.prefix}; to leave etcd, save a snapshot, remove {data_dir / FILE}, and restore it"
        )


def refuse_etcd(data_dir: Path) -> None:
    """Raise `StoreStartError` where this master's own disk has a cluster's state."""
    if data_dir.joinpath(*_RAFT).exists():
        raise StoreStartError(
            f"this master's state is in {data_dir / _RAFT[0]}: start it without --store etcd; to go to etcd, save a "
            f"snapshot, move {data_dir / _RAFT[0]} away, and restore it"
        )
