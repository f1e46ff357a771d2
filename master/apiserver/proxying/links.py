"""Links within a page that comes through a proxy: those on the backend's own host are led back through the proxy's
path, as Kubernetes' proxy does it, so that a dashboard finds its scripts and pages. Pure.

In: the pieces of a page of HTML, gzipped or plain, cut anywhere. Out: the same bytes but for the values of attributes
that are links. A tag that has begun is held until it ends, `MAX_TAG_BYTES` at the most; all else goes out at once.
Tags are told as the HTML standard has it (13.2.5): what a comment, a script or a style holds is none.
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from barque.master.apiserver.proxying.headers import Header

# A larger one is no page that a browser would show well; from there on nothing is changed any more.
MAX_TAG_BYTES = 64 * 1024
# So much is looked through at once: about 2 ms where it is all tags.
SLICE_BYTES = 8 * 1024

# Which attributes are links, by their tags: those that Kubernetes' proxy knows.
_LINKS: Mapping[bytes, frozenset[bytes]] = {
    tag: frozenset(attributes.split())
    for tags, attributes in (
        (b"a area base link", b"href"),
        (b"audio script", b"src"),
        (b"applet", b"codebase"),
        (b"blockquote del ins q", b"cite"),
        (b"body", b"background"),
        (b"button", b"formaction"),
        (b"command", b"icon"),
        (b"embed source", b"src"),
        (b"form", b"action"),
        (b"frame iframe", b"longdesc src"),
        (b"head", b"profile"),
        (b"html", b"manifest"),
        (b"img", b"longdesc src usemap"),
        (b"input", b"src usemap formaction"),
        (b"object", b"classid codebase data usemap"),
        (b"video", b"poster src"),
    )
    for tag in tags.split()
}
# What is in these is text up to their own end tag.
_RAW = {
    name: re.compile(b"</" + name, re.IGNORECASE)
    for name in (b"iframe", b"noembed", b"noframes", b"script", b"style", b"textarea", b"title", b"xmp")
}
_COMMENT, _COMMENT_END = b"<!--", re.compile(rb"--!?>")
_COMMENT_END_BYTES = 4

_NAME = re.compile(rb"<([A-Za-z][^\s/>]*+)")
_BETWEEN = re.compile(rb"[\s/]*+")
_ATTRIBUTE = re.compile(rb"(=?[^\s/>=]*+)\s*+")
_SPACE = re.compile(rb"\s*+")
_UNQUOTED = re.compile(rb"[^\s>]*+")
# Only those with a semicolon: in an address `&copy=1` is a parameter.
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

_GZIP = 16 + zlib.MAX_WBITS

Rewrite = Callable[[str], str]


def are_in(status: int, headers: Iterable[Header]) -> bool:
    """Whether an answer is a page whose links are led back: not part of one, nor packed in another way than gzip. A
    redirect has its one link in its head.
    """
    known = {name.lower(): value for name, value in headers}
    media_type = known.get("content-type", "").partition(";")[0].strip().lower()
    packed = known.get("content-encoding", "").strip().lower()
    return media_type == "text/html" and packed in ("", "gzip") and status != 206 and not known.get("location")


class _Value(NamedTuple):
    """Where the value of a link stands, without its quotes."""

    start: int
    end: int


class _Tag:
    """A start tag that is being read: `at` is how far, counted from its `<`."""

    def __init__(self, name: bytes, at: int) -> None:
        self.name = name
        self.at = at
        self.links: list[_Value] = []
        self._which = _LINKS.get(name, frozenset())

    def read(self, held: bytes) -> bool:
        """Read on in what is there of it; whether that is all of it, `at` then being behind its `>`."""
        while True:
            start = _end(_BETWEEN, held, self.at)
            if start == len(held):
                return False
            if held[start : start + 1] == b">":
                self.at = start + 1
                return True
            if not self._read_attribute(held, start):
                return False

    def _read_attribute(self, held: bytes, start: int) -> bool:
        """Read one attribute; False where its end is not there yet."""
        found = _ATTRIBUTE.match(held, start)
        assert found is not None
        end = found.end()
        if end == len(held):
            return False
        if held[end : end + 1] != b"=":
            self.at = end
            return True
        end = _end(_SPACE, held, end + 1)
        quote = held[end : end + 1]
        if quote in (b'"', b"'"):
            value = _Value(end + 1, held.find(quote, end + 1))
            after = value.end + 1
        else:
            value = _Value(end, _end(_UNQUOTED, held, end))
            after = value.end if value.end < len(held) else 0
        if after == 0:
            return False
        if found[1].lower() in self._which:
            self.links.append(value)
        self.at = after
        return True


class Links:
    """The links of one page; `rewrite` says where one leads from here."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite
        self._held = b""
        self._tag: _Tag | None = None
        # What ends the text that is under way, how long that may be, and whether it belongs to the text.
        self._until: tuple[re.Pattern[bytes], int, bool] | None = None
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """The page as far as it may go out."""
        if self._over:
            return data
        out: list[bytes] = []
        self._held += data
        while self._held and self._step(out):
            pass
        if len(self._held) > MAX_TAG_BYTES:
            self._over = True
            out.append(self.end())
        return b"".join(out)

    def end(self) -> bytes:
        """What is held at the page's end."""
        held, self._held = self._held, b""
        return held

    def _step(self, out: list[bytes]) -> bool:
        """Move something from what is held to `out`; False where more must come first."""
        if self._tag is not None:
            return self._read_tag(self._tag, out)
        if self._until is not None:
            return self._read_text(*self._until, out)
        held = self._held
        start = held.find(b"<")
        if start != 0:
            self._move(len(held) if start < 0 else start, out)
            return start > 0
        if held.startswith(_COMMENT):
            # `<!-->` is a whole one.
            self._move(2, out)
            self._until = (_COMMENT_END, _COMMENT_END_BYTES, True)
            return True
        if _COMMENT.startswith(held):
            return False
        name = _NAME.match(held)
        if name is None:
            self._move(1, out)
            return True
        if name.end() < len(held):
            self._tag = _Tag(name[1].lower(), name.end())
            return True
        return False

    def _read_text(self, pattern: re.Pattern[bytes], longest: int, within: bool, out: list[bytes]) -> bool:
        found = pattern.search(self._held)
        if found is None:
            self._move(max(0, len(self._held) - longest + 1), out)
            return False
        self._move(found.end() if within else found.start(), out)
        self._until = None
        return True

    def _read_tag(self, tag: _Tag, out: list[bytes]) -> bool:
        if not tag.read(self._held):
            return False
        done = 0
        for value in tag.links:
            out += [self._held[done : value.start], self._led_back(self._held[value.start : value.end])]
            done = value.end
        out.append(self._held[done : tag.at])
        self._held = self._held[tag.at :]
        self._tag = None
        if tag.name in _RAW:
            self._until = (_RAW[tag.name], len(tag.name) + 2, False)
        return True

    def _led_back(self, value: bytes) -> bytes:
        link = _REFERENCE.sub(lambda found: html.unescape(found[0]), value.decode("utf-8", "surrogateescape"))
        led = self._rewrite(link)
        return value if led == link else html.escape(led).encode("utf-8", "surrogateescape")

    def _move(self, size: int, out: list[bytes]) -> None:
        out.append(self._held[:size])
        self._held = self._held[size:]


class Page:
    """A page's pieces, gzipped where `packed`, with their links led back."""

    def __init__(self, rewrite: Rewrite, *, packed: bool) -> None:
        self._links = Links(rewrite)
        self._packed = packed
        self._unpacking = zlib.decompressobj(wbits=_GZIP)
        self._packing = zlib.compressobj(wbits=_GZIP)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What may go out once this has come in, in parts each made when it is asked for. Raises OSError for what is no
        gzip.
        """
        if not self._packed:
            for start in range(0, len(piece), SLICE_BYTES):
                yield self._links.feed(piece[start : start + SLICE_BYTES])
            return
        try:
            for plain in self._unpacked(piece):
                yield self._packing.compress(self._links.feed(plain))
        except zlib.error as error:
            raise BrokenPipeError(f"the page is no gzip: {error}") from error
        # So that a page which comes slowly is seen slowly, and not at its end.
        yield self._packing.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """What goes out last. Raises OSError for gzip that ended too early."""
        last = self._links.end()
        if not self._packed:
            return last
        if not self._unpacking.eof:
            raise BrokenPipeError("the page's gzip ended too early")
        return self._packing.compress(last) + self._packing.flush()

    def _unpacked(self, piece: bytes) -> Iterator[bytes]:
        plain = b""
        # A full slice may have left something behind within.
        while piece or len(plain) == SLICE_BYTES:
            if self._unpacking.eof:
                self._unpacking = zlib.decompressobj(wbits=_GZIP)
            plain = self._unpacking.decompress(piece, SLICE_BYTES)
            yield plain
            piece = self._unpacking.unconsumed_tail or self._unpacking.unused_data


def _end(pattern: re.Pattern[bytes], held: bytes, at: int) -> int:
    found = pattern.match(held, at)
    return found.end() if found is not None else at
