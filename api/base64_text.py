"""Bytes in JSON: base64 as Go's decoder takes it, which Kubernetes' API server and its clients read by.

Line breaks count for nothing; everything else must be of the standard alphabet and padded. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re

_BREAKS = re.compile(rb"[\r\n]+")
_OUTSIDE = re.compile(rb"[^A-Za-z0-9+/\r\n]")


def settled(text: str) -> str:
    """The one form of what the text holds. Raises ValueError in Go's words where it holds nothing."""
    try:
        held = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # `binascii.Error` is one; or it is not ASCII
        data = text.encode(errors="surrogatepass")
        place = _illegal(data)
        if place is not None:
            raise ValueError(f"illegal base64 data at input byte {place}") from None
        held = binascii.a2b_base64(_BREAKS.sub(b"", data))
    return base64.b64encode(held).decode()


def _illegal(data: bytes) -> int | None:
    """The place that Go's decoder stumbles at, None for none."""
    found = _OUTSIDE.search(data)
    end = found.start() if found is not None else len(data)
    in_group = (end - data.count(b"\n", 0, end) - data.count(b"\r", 0, end)) % 4
    if found is None:
        return end - in_group if in_group else None
    if data[end : end + 1] != b"=" or in_group < 2:
        return end
    after = _past_breaks(data, end + 1)
    if in_group == 2:
        if after == len(data):
            return after
        if data[after : after + 1] != b"=":
            return after - 1
        after = _past_breaks(data, after + 1)
    return after if after < len(data) else None


def _past_breaks(data: bytes, place: int) -> int:
    found = _BREAKS.match(data, place)
    return found.end() if found is not None else place
