"""One node of benchmarks/loop_lag.py: a real `swarm node` that notes how late its event loop is.

Its arguments: the configuration as JSON, and the file for one line `time seconds` for each delay above 1 ms. Without a
configuration: a loop that does nothing else.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).parent.parent))

import uvloop

from swarm import node
from swarm.config import Config
from swarm.events import EventLog
from swarm.parts import Parts

EVERY_SECONDS = 0.002
NOTED_SECONDS = 0.001


async def note_delays(file: TextIO) -> None:
    """For ever: ask to be called in 2 ms, and note by how much it was later."""
    while True:
        asked = time.monotonic()
        await asyncio.sleep(EVERY_SECONDS)
        late = time.monotonic() - asked - EVERY_SECONDS
        if late > NOTED_SECONDS:
            file.write(f"{time.time():.6f} {late:.6f}\n")


def main() -> int:
    configuration, path = sys.argv[1:]
    with Path(path).open("w", buffering=1) as file:
        if not configuration:
            uvloop.run(note_delays(file))
        live = node._live

        async def noted(config: Config, parts: Parts, log: EventLog, stop: asyncio.Event) -> int:
            noting = asyncio.create_task(note_delays(file))
            try:
                return await live(config, parts, log, stop)
            finally:
                noting.cancel()

        node._live = noted
        return node.main(Config.model_validate_json(configuration))


if __name__ == "__main__":
    raise SystemExit(main())
