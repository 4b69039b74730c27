"""A DHT node without training: an address that does not change, where nodes find each other."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from p2p.discovery.discovery import Discovery
from p2p.errors import SwarmError
from swarm.config import NodeConfig


class BootstrapEnded(SwarmError):
    """The DHT process died under us."""


def serve(node: NodeConfig, state_dir: Path) -> None:
    """Print the multiaddrs, then serve until SIGTERM or SIGINT. Raises BootstrapEnded, and as Discovery.start does."""
    discovery = Discovery.start(
        node.bootstrap_peers,
        node.host,
        node.dht_port,
        state_dir,
        must_join=False,  # others of the list may be started at the same time, or wait for us
        announce_host=node.announce_host,
        on_event=_log,
    )
    try:
        uvloop.run(_until_told(discovery))
    finally:
        discovery.close()


async def _until_told(discovery: Discovery) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    sys.stdout.write("".join(f"{address}\n" for address in discovery.addresses()))
    sys.stdout.flush()  # whoever reads them may stop us from now on
    serving, waiting = asyncio.create_task(discovery.serve()), asyncio.create_task(told.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    serving.cancel()
    if not told.is_set():
        raise BootstrapEnded("the DHT process has ended; start `swarm bootstrap` again")


def _log(text: str) -> None:
    sys.stderr.write(text + "\n")
