"""What waits to be sent to one peer: bounded, and with what is small and urgent before pieces of snapshots.

Full, it drops what comes: Raft sends again what matters, and what waits is older and in order.
"""

from __future__ import annotations

from collections import deque

from barque.master.raft.messages import Append, Message, Parcel, SnapshotChunk

MAX_MESSAGES = 4096
MAX_BYTES = 64 * 1024 * 1024
# A frame is taken apart in one turn of the receiver's loop, and a heartbeat waits for one frame at most.
FRAME_BYTES = 1024 * 1024
_CHUNK_FRAME_BYTES = 256 * 1024
# What a message costs besides its data.
_HEAD_BYTES = 64


class Outbox:
    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._urgent: deque[tuple[Message, int]] = deque()
        self._chunks: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        # How many were dropped since the last `clear`.
        self.dropped = 0

    def put(self, message: Message) -> bool:
        """Whether there was room."""
        size = size_of(message)
        if len(self._urgent) + len(self._chunks) >= self._max_messages or self._bytes + size > self._max_bytes:
            self.dropped += 1
            return False
        (self._chunks if isinstance(message, SnapshotChunk) else self._urgent).append((message, size))
        self._bytes += size
        return True

    def take(self) -> list[Message]:
        """A frame's worth, in order of sending; empty where nothing waits."""
        frame: list[Message] = []
        size = 0
        for queue, limit in ((self._urgent, FRAME_BYTES), (self._chunks, _CHUNK_FRAME_BYTES)):
            while queue and (not frame or size + queue[0][1] <= limit):
                message, its_size = queue.popleft()
                frame.append(message)
                size += its_size
        self._bytes -= size
        return frame

    def clear(self) -> None:
        self._urgent.clear()
        self._chunks.clear()
        self._bytes = self.dropped = 0


def size_of(message: Message) -> int:
    """About how many bytes it takes on the wire."""
    if isinstance(message, Append):
        return _HEAD_BYTES + sum([len(entry.data) + 16 for entry in message.entries])
    if isinstance(message, SnapshotChunk | Parcel):
        return _HEAD_BYTES + len(message.data)
    return _HEAD_BYTES
