"""Runs inside the host: several clients fetch a page without pause until standard input ends, then prints how it went.

Every request has a connection of its own. The output is one JSON object: how many pages came by their first words, and
every fault in words.
"""

from __future__ import annotations

import collections
import http.client
import json
import sys
import threading
import time

CLIENTS = 4
# Leaves the machine to what is tested.
PAUSE_S = 0.01


def fetch(address: str) -> str:
    """What a request came to: the version its page names, else its fault."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        page = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return page.split(",")[0] if answer.status == 200 else f"HTTP {answer.status}"


def keep_fetching(address: str, ended: threading.Event, answers: list[str]) -> None:
    while not ended.is_set():
        answers.append(fetch(address))
        time.sleep(PAUSE_S)


def main() -> None:
    ended = threading.Event()
    answers: list[str] = []
    clients = [threading.Thread(target=keep_fetching, args=(sys.argv[1], ended, answers)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    print("fetching", flush=True)
    sys.stdin.read()
    ended.set()
    for client in clients:
        client.join()
    print(json.dumps(collections.Counter(answers)), flush=True)


main()
