"""How much a JSON body may make of its bytes, looked at before anything decodes it.

A decoder written in C holds the interpreter, and with it the whole daemon, until it is done. What that takes is not
told by the body's length: an empty object of two bytes becomes a structure of hundreds, and a number at the very end of
what a float can be takes a thousand times as long to read as others. In: a body, of whatever form. Guarantees: what is
let pass is decoded, walked and freed within some 50 ms a step; the look at it costs a few per cent of that, and holds
nothing for longer than a millisecond or two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from barque.api.errors import ApiError

# The largest objects that are of use, roles of ten thousand rules, have fewer.
MOST_VALUES = 100_000
# At up to 10 µs each. No field of any kind is such a number.
MOST_EXPONENTS = 2_000
# The shortest bodies that may hold as many: `1e308,` has six bytes.
_LOOKED_AT_BYTES = 6 * MOST_EXPONENTS
_PORTION_BYTES = 256 * 1024
_EXPONENT = re.compile(rb"[eE][+-]?0*[1-9]\d\d")


def check_bulk(body: bytes) -> None:
    """Raises 413 for a body of too many values."""
    if len(body) < _LOOKED_AT_BYTES:
        return
    # Of nearly every large body this is enough: what stands in its texts is counted as well.
    if _values(body) <= MOST_VALUES and body.count(b"e") + body.count(b"E") <= MOST_EXPONENTS:
        return
    values = exponents = 0
    for text in _outside_strings(body):
        values += _values(text)
        exponents += len(_EXPONENT.findall(text))
        if values > MOST_VALUES:
            raise _too_much(f"values: limit is {MOST_VALUES}")
        if exponents > MOST_EXPONENTS:
            raise _too_much(f"numbers with large exponents: limit is {MOST_EXPONENTS}")


def _values(text: bytes) -> int:
    return text.count(b",") + text.count(b"{") + text.count(b"[")


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """What stands between a body's strings, piece by piece."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    inside = False
    for at in range(0, len(body), _PORTION_BYTES):
        parts = body[at : at + _PORTION_BYTES].split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0


def _too_much(what: str) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity holds too many {what}")
