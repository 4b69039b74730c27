"""One process of benchmarks/utilisation.py: a real `swarm node` on a host of its own, whose inner steps sleep.

It gets its configuration as a line of JSON on standard input, and tells the rest in its event file.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.link_hosts import join
from swarm import node
from swarm.config import Config
from swarm.train.rank import RankTrainer


def main() -> int:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    with socket.socket(fileno=settings["link"]) as link:
        join(settings["address"], settings["congestion"], link)
    order = json.loads(sys.stdin.readline())
    step_seconds = float(order["step_seconds"])

    def sleep_instead(self: RankTrainer, *_arguments: object) -> float:
        time.sleep(step_seconds)
        self.steps_taken += 1
        return 1.0

    RankTrainer.step = sleep_instead  # type: ignore[method-assign]
    return node.main(Config.model_validate_json(order["config"]))


if __name__ == "__main__":
    raise SystemExit(main())
