from __future__ import annotations

import pytest
import torch

from benchmarks.gpu_mfu import LOG, RUN, main, measure
from swarm.config import Config, NodeConfig


def test_without_a_gpu_it_says_why_it_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = LOG.exists()
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("skipped: torch sees no CUDA device here")
    assert LOG.exists() == before


def test_what_it_measures_is_the_trainer_of_a_node() -> None:
    run = RUN.model_copy(update={"model": "demo", "sequence_length": 32, "batch_size": 2})
    said: list[str] = []
    result = measure(Config(run=run, node=NodeConfig(threads=1, peak_tflops=0.1)), 2, said.append)
    assert (result.steps, result.tokens) == (2, 128)
    assert result.mfu is not None
    assert 0 < result.mfu < 1
    assert "tokens/s" in "\n".join(said)
