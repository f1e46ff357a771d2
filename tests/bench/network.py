"""`make bench BENCH=network`: the overlay, the service proxy, the DNS and the loss of a node.

Each part runs in namespaces of its own, beside a peer made by hand in the same run where there is one. Name parts to
run only those: `python -m tests.bench.network services dns`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tests.bench import network_dns, network_loss, network_overlay, network_services
from tests.bench.report import Figure, publish

PARTS: dict[str, Callable[[], list[Figure]]] = {
    "services": network_services.measure,
    "dns": network_dns.measure,
    "overlay": network_overlay.measure,
    "loss": network_loss.measure,
}


def main(parts: Sequence[str]) -> None:
    figures: list[Figure] = []
    for name in parts or PARTS:
        figures += PARTS[name]()
    publish("network", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
