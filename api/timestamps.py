"""Reading the timestamps that objects carry. `barque.client.clock` writes them."""

from __future__ import annotations

import datetime


def parse(text: str) -> datetime.datetime | None:
    """The moment an RFC 3339 timestamp names, in UTC; None where it is empty or no timestamp."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
