"""Follow the change feed straight from NATS, as an administrator.

    python follow_the_feed.py HOST:PORT DIRECTORY [FIRST]

DIRECTORY has `admin.pem` (certificate and key) and `ca.pem`, as a master keeps them in `/var/lib/barque/master/pki`.
FIRST is the number in the stream to begin with: one more than the last that was read. Needs nats-py.
"""

import asyncio
import json
import secrets
import ssl
import sys

import nats
import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

CLUSTER = "barque"
STREAM = "BARQUE_CHANGES"


async def follow(address: str, directory: str, first: int) -> None:
    """For ever. The server ends each connection after a while, to see whether the user may still be there."""
    while True:
        try:
            first = await follow_once(address, directory, first)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            print(f"connecting again: {error}", file=sys.stderr)
            await asyncio.sleep(1)


async def follow_once(address: str, directory: str, first: int) -> int:
    """Until the connection ends; return where to go on."""
    context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    context.load_cert_chain(f"{directory}/admin.pem")
    connection = await nats.connect(
        f"tls://{address}",
        tls=context,
        tls_hostname="barque-master",  # the name that every master's certificate is good for, wherever it runs
        inbox_prefix=b"_INBOX_barque-admin",  # the only one the server lets this user listen to
    )
    feed = connection.jetstream(prefix=f"barque.{CLUSTER}.jetstream")
    wanted = ConsumerConfig(
        name=f"follower-{secrets.token_hex(4)}",
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=first,
        ack_policy=AckPolicy.NONE,  # whoever follows keeps the place himself
        filter_subject=f"barque.{CLUSTER}.change.apps.deployments.default.>",
    )
    consumer = await feed.add_consumer(STREAM, wanted)
    messages = await feed.pull_subscribe_bind(consumer=consumer.name, stream=STREAM)
    while connection.is_connected:
        try:
            batch = await messages.fetch(100, timeout=5)
        except nats.errors.TimeoutError:
            continue  # nothing has changed
        except nats.errors.ConnectionClosedError:
            break
        for message in batch:
            change = json.loads(message.data)
            sequence = message.metadata.sequence.stream
            print(sequence, change["verb"], change["revision"], message.subject, flush=True)
            first = sequence + 1
    await connection.close()
    return first


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1))
