from __future__ import annotations

import pytest

from benchmarks.quality import diloco, interval
from swarm.config import RunConfig

SHORT = RunConfig(sequence_length=16, batch_size=2, inner_steps=3, warmup_steps=0)


def test_the_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    assert high - mean == pytest.approx(2.776 * (2.5 / 5) ** 0.5)
    assert mean - low == pytest.approx(high - mean)


def test_replicas_learn_together_and_the_codec_matters_little() -> None:
    losses = {codec: diloco(SHORT.model_copy(update={"codec": codec}), rounds=2) for codec in ("fp32", "int8")}
    assert losses["fp32"] < 5.5
    assert losses["fp32"] != losses["int8"]
    assert losses["fp32"] == pytest.approx(losses["int8"], rel=0.01)
