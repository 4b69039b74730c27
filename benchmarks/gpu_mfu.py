"""Model FLOPs utilisation of a 1B Llama in bf16, compiled, on one GPU, as a node trains it.

    python benchmarks/gpu_mfu.py [--micro-batch-size 8] [--steps 20]      # writes benchmarks/gpu_mfu.log

The node's own trainer takes inner steps: its local group (FSDP2 of one rank), its feed, documents packed with masks
(FlexAttention), the loss by chunks, clipping and AdamW; the text is the embedded one, whose bytes are tokens of the 1B
model's vocabulary. The first steps, in which torch compiles, are not measured. FLOPs are counted as PaLM does and
divided by the GPU's dense bf16 peak (swarm/train/mfu.py).

Without a CUDA device it says so, measures nothing, leaves the log alone and ends with status 0. Exit status 1 if the
utilisation is below the bar, which is meant for an H200; other GPUs are measured against it all the same.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from swarm.config import Config, NodeConfig, RunConfig
from swarm.train.build import open_trainer
from swarm.train.ranks.others import OtherRanks
from swarm.train.trainer import TrainResult

BAR = 0.45
LOG = Path(__file__).with_suffix(".log")
RUN = RunConfig(model="1b", sequence_length=2048, batch_size=64, precision="bf16", inner_lr=1e-4, z_loss=2e-4)
WARM_STEPS = 4

Say = Callable[[str], None]


def measure(config: Config, steps: int, say: Say) -> TrainResult:
    """So many steps of the trainer of a node with this configuration, after a few that are not counted."""
    others = OtherRanks.start(config.node.local_world_size)
    try:
        trainer = open_trainer(config, others)
        try:
            trainer.load_flat(trainer.initial(config.run.seed, trainer.vectors.theta_P))
            samples = itertools.count()
            warm = trainer.train(samples, WARM_STEPS)
            say(f"{WARM_STEPS} steps to warm up, compiling included: {warm.seconds:.1f} s, loss {warm.loss:.3f}")
            result = trainer.train(samples, steps, first_step=WARM_STEPS)
        finally:
            trainer.close()
    finally:
        others.close()
    rate = result.tokens / result.seconds
    size = f"{config.run.batch_size} x {config.run.sequence_length} tokens"
    say(f"{steps} steps of {size}: {result.seconds:.2f} s, {rate:,.0f} tokens/s")
    say(f"{result.data_seconds:.2f} s of it waiting for data, loss {result.loss:.3f}")
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micro-batch-size", type=int, default=8, help="samples in one forward and backward pass")
    parser.add_argument("--loss-chunk", type=int, default=4096, help="tokens whose logits exist at a time")
    parser.add_argument("--steps", type=int, default=20, help="inner steps to measure")
    parser.add_argument("--peak-tflops", type=float, help="bf16 TFLOP/s of the GPU, if its name is not known")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("skipped: torch sees no CUDA device here, and utilisation is meant for a GPU; nothing was measured")
        return 0
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    node = NodeConfig(
        device="cuda",
        compile=True,
        micro_batch_size=options.micro_batch_size,
        loss_chunk=options.loss_chunk,
        peak_tflops=options.peak_tflops,
    )
    device = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    say(f"{device}, model {RUN.model}, {RUN.precision}, compiled, {vars(options)}")
    result = measure(Config(run=RUN, node=node), options.steps, say)
    say(f"most GPU memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    if result.mfu is None:
        say("nobody knows this GPU's peak: give --peak-tflops")
        return 1
    say(f"model FLOPs utilisation {result.mfu:.1%}, bar {BAR:.0%}: {'met' if result.mfu >= BAR else 'MISSED'}")
    LOG.write_text("\n".join(lines) + "\n")
    return 0 if result.mfu >= BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
