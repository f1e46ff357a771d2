"""What the stores of two members say to each other directly, each a `Parcel` of bytes, which may be lost or doubled.

Nothing here is needed for safety: what is to hold goes through the log.
"""

from __future__ import annotations

import msgspec

from barque.master.raft.messages import MemberInfo


class Forward(msgspec.Struct, frozen=True, gc=False, tag=1, array_like=True):
    """To the leader: propose these payloads, in this order. Those it has in hand already it passes over."""

    payloads: list[bytes]


class Hello(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """To the leader, every few seconds: who and where I am, the newest format of an entry that I read, my release; and
    what is wrong with my disk, "" where nothing is.
    """

    info: MemberInfo
    newest_format: int
    release: str
    fault: str = ""


class Digest(msgspec.Struct, frozen=True, gc=False, tag=3, array_like=True):
    """To everybody: the hash of my state after entry `index`."""

    index: int
    digest: bytes


class Request(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """To the leader: change the group. `verb` is `add`, `remove` or `transfer`; `name` an id or a name."""

    number: int
    verb: str
    name: str = ""
    info: MemberInfo | None = None


class Reply(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """To whoever asked: it is done (`answer`), or why it is not: `refused` by the rules, or `unavailable`."""

    number: int
    answer: str = ""
    refused: str = ""
    unavailable: str = ""


Letter = Forward | Hello | Digest | Request | Reply

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Letter)


def encode_letter(letter: Letter) -> bytes:
    return _encoder.encode(letter)


def decode_letter(data: bytes) -> Letter | None:
    """None for one that this release does not know."""
    try:
        letter: Letter = _decoder.decode(data)
    except msgspec.DecodeError:
        return None
    return letter
