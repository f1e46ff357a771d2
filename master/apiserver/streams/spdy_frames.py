"""SPDY/3.1 on the wire: frames to bytes and back, without I/O (the SPDY Protocol draft 3.1, sections 2.2 and 2.6).

In: bytes in pieces of any size; out: frames, and the bytes of frames. A data frame larger than what has come is handed
on piece by piece, so nothing is kept but one control frame, bounded, and the state of the header compression, which
lasts as long as the connection. Frames of unknown types are passed over, as the draft wants it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

# The headers of a Kubernetes stream are some 200 bytes, and last as long as it does: what a few bytes unpack to is held
# by each of hundreds.
MAX_HEADERS_BYTES = 4 * 1024
MAX_HEADERS = 64
# The longest control frame: headers, were they not compressed at all.
MAX_CONTROL_BYTES = 16 * 1024
MAX_DATA_BYTES = 2**24 - 1

FIN, UNIDIRECTIONAL = 0x01, 0x02
INITIAL_WINDOW_SIZE = 7
# Statuses of RST_STREAM and of GOAWAY.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 1, 2, 3, 5, 6, 7
GOAWAY_OK, GOAWAY_PROTOCOL_ERROR = 0, 1

_VERSION = 3
_HEAD = struct.Struct(">II")
_WORD, _TWO_WORDS = struct.Struct(">I"), struct.Struct(">II")
_LOW_31 = 0x7FFFFFFF


class _Kind:
    """Types of control frames."""

    SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9


class SpdyError(Exception):
    """The peer broke the protocol: the connection cannot go on."""


class SynStream(NamedTuple):
    stream: int
    headers: Mapping[str, str]
    fin: bool = False
    unidirectional: bool = False


class SynReply(NamedTuple):
    stream: int
    headers: Mapping[str, str]
    fin: bool = False


class RstStream(NamedTuple):
    stream: int
    status: int


class Settings(NamedTuple):
    values: Mapping[int, int]


class Ping(NamedTuple):
    number: int


class GoAway(NamedTuple):
    last_stream: int
    status: int = GOAWAY_OK


class Headers(NamedTuple):
    stream: int
    headers: Mapping[str, str]
    fin: bool = False


class WindowUpdate(NamedTuple):
    """`stream` 0 is the whole connection."""

    stream: int
    delta: int


class Data(NamedTuple):
    stream: int
    data: bytes
    fin: bool = False


Frame: TypeAlias = SynStream | SynReply | RstStream | Settings | Ping | GoAway | Headers | WindowUpdate | Data


# What header compression begins with (section 2.6.10.1): names, each with its length, then common values.
_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age "
    "allow authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_MORE_NAMES = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_VALUES = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _sized(text: bytes) -> bytes:
    return _WORD.pack(len(text)) + text


DICTIONARY = b"".join(_sized(name.encode()) for name in (*_NAMES.split(), *_MORE_NAMES)) + _VALUES.encode()


class Encoder:
    """Frames to bytes, in the order in which they are sent: the header compression goes on from one to the next."""

    def __init__(self) -> None:
        # A window that holds the dictionary and little more: some 12 KiB a connection instead of 256.
        self._compressor = zlib.compressobj(6, zlib.DEFLATED, 11, 1, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream, data, fin):
                return _HEAD.pack(stream, FIN * fin << 24 | len(data)) + data
            case SynStream(stream, headers, fin, unidirectional):
                flags = FIN * fin | UNIDIRECTIONAL * unidirectional
                body = _TWO_WORDS.pack(stream, 0) + b"\0\0" + self._block(headers)
                return _control(_Kind.SYN_STREAM, body, flags)
            case SynReply(stream, headers, fin):
                return _control(_Kind.SYN_REPLY, _WORD.pack(stream) + self._block(headers), FIN * fin)
            case Headers(stream, headers, fin):
                return _control(_Kind.HEADERS, _WORD.pack(stream) + self._block(headers), FIN * fin)
            case RstStream(stream, status):
                return _control(_Kind.RST_STREAM, _TWO_WORDS.pack(stream, status))
            case Settings(values):
                entries = b"".join(_TWO_WORDS.pack(number, value) for number, value in sorted(values.items()))
                return _control(_Kind.SETTINGS, _WORD.pack(len(values)) + entries)
            case Ping(number):
                return _control(_Kind.PING, _WORD.pack(number))
            case GoAway(last_stream, status):
                return _control(_Kind.GOAWAY, _TWO_WORDS.pack(last_stream, status))
            case WindowUpdate(stream, delta):
                return _control(_Kind.WINDOW_UPDATE, _TWO_WORDS.pack(stream, delta))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        pairs = (_sized(name.lower().encode()) + _sized(value.encode()) for name, value in headers.items())
        plain = _WORD.pack(len(headers)) + b"".join(pairs)
        return self._compressor.compress(plain) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return _HEAD.pack(1 << 31 | _VERSION << 16 | kind, flags << 24 | len(body)) + body


class Decoder:
    """Bytes to frames."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)
        self._buffer = bytearray()
        # The data frame that is coming in: its stream, what is still to come, whether it is the stream's last.
        self._stream, self._left, self._fin = 0, 0, False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete; to be gone through before more is fed. Raises SpdyError."""
        self._buffer += data
        while True:
            if self._left:
                piece = bytes(self._buffer[: self._left])
                if not piece:
                    return
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                yield Data(self._stream, piece, self._fin and not self._left)
                continue
            if len(self._buffer) < _HEAD.size:
                return
            first, second = _HEAD.unpack_from(self._buffer)
            length = second & 0xFFFFFF
            if first >> 31:
                if length > MAX_CONTROL_BYTES:
                    raise SpdyError(f"a control frame of {length} bytes is longer than {MAX_CONTROL_BYTES}")
                if len(self._buffer) < _HEAD.size + length:
                    return
                body = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
                del self._buffer[: _HEAD.size + length]
                frame = self._read_control(first, second >> 24, body)
                if frame is not None:
                    yield frame
                continue
            del self._buffer[: _HEAD.size]
            self._stream, self._left, self._fin = first, length, bool(second >> 24 & FIN)
            if not length:
                yield Data(first, b"", self._fin)

    def _read_control(self, first: int, flags: int, body: bytes) -> Frame | None:
        if first >> 16 & 0x7FFF != _VERSION:
            raise SpdyError(f"SPDY version {first >> 16 & 0x7FFF} is not spoken here, only {_VERSION}")
        try:
            return self._read_body(first & 0xFFFF, flags, body)
        except (struct.error, UnicodeDecodeError, zlib.error) as error:
            raise SpdyError(f"a control frame cannot be read: {error}") from None

    def _read_body(self, kind: int, flags: int, body: bytes) -> Frame | None:
        fin = bool(flags & FIN)
        match kind:
            case _Kind.SYN_STREAM:
                (stream,) = _WORD.unpack_from(body)
                headers = self._read_block(body[10:])
                return SynStream(stream & _LOW_31, headers, fin, bool(flags & UNIDIRECTIONAL))
            case _Kind.SYN_REPLY:
                return SynReply(_word(body) & _LOW_31, self._read_block(body[4:]), fin)
            case _Kind.HEADERS:
                return Headers(_word(body) & _LOW_31, self._read_block(body[4:]), fin)
            case _Kind.RST_STREAM:
                stream, status = _TWO_WORDS.unpack(body)
                return RstStream(stream & _LOW_31, status)
            case _Kind.SETTINGS:
                entries = [_TWO_WORDS.unpack_from(body, 4 + 8 * at) for at in range(min(_word(body), len(body) // 8))]
                return Settings({number & 0xFFFFFF: value for number, value in entries})
            case _Kind.PING:
                return Ping(_word(body))
            case _Kind.GOAWAY:
                last, status = _TWO_WORDS.unpack(body)
                return GoAway(last & _LOW_31, status)
            case _Kind.WINDOW_UPDATE:
                stream, delta = _TWO_WORDS.unpack(body)
                return WindowUpdate(stream & _LOW_31, delta & _LOW_31)
        return None

    def _read_block(self, block: bytes) -> dict[str, str]:
        """Header names and values; names in lower case. Raises SpdyError for more than is bearable."""
        plain = self._decompressor.decompress(block, MAX_HEADERS_BYTES)
        # Where it is just full, more of it may still be in the decompressor.
        if len(plain) >= MAX_HEADERS_BYTES or self._decompressor.eof:
            raise SpdyError(f"headers are longer than {MAX_HEADERS_BYTES} bytes, or their compression ends")
        count, at = _word(plain), _WORD.size
        if count > MAX_HEADERS:
            raise SpdyError(f"{count} headers are more than {MAX_HEADERS}")
        texts: list[str] = []
        for _ in range(2 * count):
            (length,) = _WORD.unpack_from(plain, at)
            if at + _WORD.size + length > len(plain):
                raise SpdyError("a header is longer than its block")
            texts.append(plain[at + _WORD.size : at + _WORD.size + length].decode())
            at += _WORD.size + length
        headers = {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}
        if len(headers) < count or "" in headers:
            raise SpdyError("a header has no name, or the name of another")
        return headers


def _word(body: bytes) -> int:
    (word,) = _WORD.unpack_from(body)
    return int(word)
