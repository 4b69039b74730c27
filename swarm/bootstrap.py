"""A DHT node without training: an address that does not change, where nodes find each other."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from p2p.discovery import Discovery, DiscoveryFailed, DiscoveryLost
from p2p.errors import SwarmError
from swarm.config import NodeConfig

CHECK_SECONDS = 5.0
_NO_RUN = bytes(32)


class BootstrapEnded(SwarmError):
    """The DHT process died under us."""


def serve(node: NodeConfig, state_dir: Path) -> None:
    """Print the multiaddrs, then serve until SIGTERM or SIGINT. Raises BootstrapEnded, and as Discovery.start does."""
    discovery = Discovery.start(
        node.bootstrap_peers,
        node.host,
        node.dht_port,
        state_dir,
        announce_host=node.announce_host,
        on_event=_log,
    )
    try:
        sys.stdout.write("".join(f"{address}\n" for address in discovery.addresses()))
        sys.stdout.flush()
        uvloop.run(_until_told(discovery))
    finally:
        discovery.close()


async def _until_told(discovery: Discovery) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    while not told.is_set():
        await _check(discovery)
        try:
            await asyncio.wait_for(told.wait(), CHECK_SECONDS)
        except TimeoutError:
            continue


async def _check(discovery: Discovery) -> None:
    """A lookup of nothing: it shows whether the DHT process is there."""
    try:
        await discovery.find(_NO_RUN)
    except DiscoveryLost:
        raise BootstrapEnded("the DHT process has ended; start `swarm bootstrap` again") from None
    except DiscoveryFailed as error:
        _log(str(error))


def _log(text: str) -> None:
    sys.stderr.write(text + "\n")
