"""What packing leaves of the codes of real pseudo-gradients, and of their means.

    python benchmarks/packing.py          # two minutes; also written to benchmarks/packing.log

Four replicas train by DiLoCo in one process, without a network, in each codec; the codes of all parts of a round, and
of its mean, are packed in pieces as a reduce packs them. In the first round Adam moves all parameters about alike, and
there is little to gain. Normal values, and the time it takes: benchmarks/codec.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.quality_training import Members, diloco
from benchmarks.report import Report
from ops.encoded import Encoded
from ops.packing import pack
from p2p.protocol.pieces import PIECE_SIZE
from swarm.config import RunConfig

CODECS = ("int8", "int4", "int2")
DEMO, DEMO_ROUNDS = RunConfig(inner_steps=20), 4
FIVE, FIVE_ROUNDS = RunConfig(model="5m", inner_steps=16, batch_size=2, precision="bf16"), 3
HELD_OUT_TOKENS = 4096


def left(vectors: Iterable[Encoded]) -> float:
    """Part of the codes' bytes that is sent."""
    whole = sent = 0
    for encoded in vectors:
        for start in range(0, encoded.count, PIECE_SIZE.largest):
            codes = encoded.slice(start, min(start + PIECE_SIZE.largest, encoded.count)).codes
            whole += codes.nbytes
            sent += pack(codes, np.empty_like(codes)) or codes.nbytes
    return sent / whole


def main() -> None:
    report = Report()
    report("bytes that packing leaves of codes, by rounds: parts / mean")
    for run, rounds in ((DEMO, DEMO_ROUNDS), (FIVE, FIVE_ROUNDS)):
        for codec in CODECS:
            found: list[str] = []

            def watch(members: Members, found: list[str] = found) -> None:
                found.append(f"{left(members.parts):.3f} / {left([members.last_mean]):.3f}")

            diloco(run.model_copy(update={"codec": codec}), rounds, HELD_OUT_TOKENS, watch)
            report(f"{run.model:<5} {codec}  " + "   ".join(found))
    Path(__file__).with_suffix(".log").write_text("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
