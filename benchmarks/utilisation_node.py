"""One process of benchmarks/utilisation.py: a real `swarm node` on a host of its own, whose inner steps mostly sleep.

It gets its configuration as a line of JSON on standard input, and tells the rest in its event file, and in a line of
JSON for each stretch of inner steps: the run's number of the first, and when it began and ended.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch.distributed.tensor import DTensor

from benchmarks.link_hosts import join
from swarm import node
from swarm.config import Config
from swarm.train.rank import RankTrainer
from swarm.train.trainer import InnerTrainer, TrainResult

STEP_SIZE = 1e-3


def main() -> int:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    with socket.socket(fileno=settings["link"]) as link:
        join(settings["address"], settings["congestion"], link)
    order = json.loads(sys.stdin.readline())
    step_seconds = float(order["step_seconds"])

    noise = torch.randn(1 << 22)

    def sleep_instead(self: RankTrainer, *_arguments: object) -> float:
        """Moves one tensor, each in its turn, at random: codes of a model that stands still would pack into nothing."""
        ends = time.monotonic() + step_seconds
        tensors = [cast(DTensor, parameter.detach()).to_local() for parameter in self.model.parameters()]
        moved = tensors[self.steps_taken % len(tensors)].view(-1)
        for start in range(0, len(moved), len(noise)):
            part = moved[start : start + len(noise)]
            part.add_(noise[: len(part)], alpha=STEP_SIZE)
        self.steps_taken += 1
        time.sleep(max(0.0, ends - time.monotonic()))
        return 1.0

    train = InnerTrainer.train
    stretches = Path(order["stretches"]).open("a", buffering=1)  # noqa: SIM115 - for as long as the process lives

    def train_and_note(self: InnerTrainer, *arguments: Any, first_step: int) -> TrainResult:
        began = time.monotonic()
        result = train(self, *arguments, first_step=first_step)
        stretches.write(json.dumps([first_step, began, time.monotonic()]) + "\n")
        return result

    RankTrainer.step = sleep_instead  # type: ignore[method-assign]
    InnerTrainer.train = train_and_note  # type: ignore[method-assign, assignment]
    return node.main(Config.model_validate_json(order["config"]))


if __name__ == "__main__":
    raise SystemExit(main())
