"""The settings of simulated masters: small, so that what happens once an hour in a cluster happens often in a run.

Times are production's. Bounds are a thousandth of it: a segment of the log, a snapshot's log, what one message carries,
what stays in memory for members that lag. So segments turn, snapshots are taken and sent, entries are split over
messages, and memory is let go of, all within half a minute.
"""

from __future__ import annotations

from barque.master.raft.member import MemberSettings
from barque.master.raft.ready import CoreSettings
from barque.master.raft.transfer import TransferSettings
from barque.master.store.engine_raft import Settings
from barque.master.store.proposals import ProposalSettings

SETTINGS = Settings(
    segment_bytes=8 * 1024,
    snapshot_log_bytes=16 * 1024,
    inspect_s=7.0,
    proposals=ProposalSettings(group_bytes=4096),
    member=MemberSettings(
        core=CoreSettings(append_bytes=512, inflight_messages=8, inflight_bytes=8192, uncommitted_bytes=256 * 1024),
        transfer=TransferSettings(window=2, give_up_s=8.0),
        apply_entries=8,
        kept_bytes=16 * 1024,
        kept_for_laggards_bytes=64 * 1024,
    ),
)
