"""A node in a process of its own, to be killed and stopped: prints its peer id and port, then obeys nobody."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from p2p.identity import Identity
from tests.p2p.channel.nodes import Node


async def main(key_file: str, port: int) -> None:
    node = Node(Identity.load_or_create(key_file))
    await node.listen(port)
    sys.stdout.write(f"{node.peer} {node.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
