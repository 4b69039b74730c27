from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality_runs
from benchmarks.quality import ARMS, interval, sent, show
from benchmarks.quality_runs import BASELINES, Setting, Trial
from benchmarks.quality_training import NODES, Members, diloco
from ops.codec import get_codec
from swarm.config import RunConfig

SHORT = RunConfig(sequence_length=16, batch_size=2, inner_steps=3, warmup_steps=0)
SETTING = Setting(SHORT, 2, ARMS, seeds=2)


def test_the_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    assert high - mean == pytest.approx(2.776445 * (2.5 / 5) ** 0.5)
    assert mean - low == pytest.approx(high - mean)


def test_replicas_learn_together_and_the_codec_matters_little() -> None:
    losses = {
        codec: diloco(SHORT.model_copy(update={"codec": codec}), rounds=2, held_out_tokens=512)
        for codec in ("fp32", "int8", "int2")
    }
    assert losses["fp32"] < 5.5
    assert len(set(losses.values())) == 3
    assert losses["int8"] == pytest.approx(losses["fp32"], rel=0.01)
    assert losses["int2"] == pytest.approx(losses["fp32"], rel=0.05)


@pytest.mark.parametrize(("codec", "error"), [("fp32", 1e-6), ("int4", 0.18), ("int2", 0.18)])
def test_what_a_round_lacks_a_coarse_codec_gives_back_later(codec: str, error: float) -> None:
    """A constant gradient: a round of two bits lacks 0.4 of it, and the mean of many is as good as that of four."""
    count, rounds = 3000, 8
    members, zero_P = Members(get_codec(codec), count), np.zeros(count, np.float32)
    gradients = [np.random.default_rng(rank).standard_normal(count).astype(np.float32) for rank in range(NODES)]
    sum_P, out_P = np.zeros(count), np.empty(count, np.float32)
    for _ in range(rounds):
        for rank, gradient_P in enumerate(gradients):
            members.contribute(rank, gradient_P, zero_P)
        mean = members.mean()
        mean.codec.decode(mean, out_P)
        sum_P += out_P
    wanted_P = np.mean(gradients, 0)
    assert np.linalg.norm(sum_P / rounds - wanted_P) < error * np.linalg.norm(wanted_P)


def test_traffic_is_that_of_a_step_against_that_of_a_round() -> None:
    assert sent("fp32", (20, 100)).split() == ["32.000", "20x", "100x"]
    assert sent("int8", (20, 100)).split() == ["8.031", "80x", "398x"]
    assert sent("int2", (20, 100)).split() == ["3.250", "197x", "985x"]
    assert sent("data parallel", (20, 100)).split() == ["32.000", "1x", "1x"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(quality_runs, "LOG", tmp_path / "runs.log")
    return tmp_path / "runs.log"


@pytest.mark.usefixtures("log")
def test_what_was_run_is_not_run_again() -> None:
    assert len(quality_runs.missing([SETTING], quality_runs.read())) == 2 * len(ARMS)
    quality_runs.write(SETTING, "int8", 1, 2.5)
    missing = quality_runs.missing([SETTING], quality_runs.read())
    assert Trial(SETTING, "int8", 0) in missing
    assert Trial(SETTING, "int8", 1) not in missing
    longer = Setting(SHORT, 3, ARMS, seeds=2)
    quality_runs.write(longer, "int8", 1, 2.5)
    quality_runs.forget([SETTING])
    assert list(quality_runs.read()) == [(str(longer), "int8", 1)]


@pytest.mark.usefixtures("log")
def test_one_run_gives_all_baselines() -> None:
    setting = Setting(SHORT, 2, ("fp32", *BASELINES), seeds=1)
    assert [trial.arm for trial in quality_runs.missing([setting], {})] == ["fp32", BASELINES[0]]


@pytest.mark.parametrize(("int4", "passed"), [((2.011, 2.012), False), ((2.001, 2.0011), True)])
def test_a_codec_passes_with_the_whole_interval(int4: tuple[float, float], passed: bool) -> None:
    runs = {(str(SETTING), arm, seed): 2.0 for arm in ARMS for seed in range(2)}
    runs |= {(str(SETTING), "int4", seed): loss for seed, loss in enumerate(int4)}
    said: list[str] = []
    assert show(SETTING, runs, said.append) == passed
    text = "".join(said)
    assert f"int4: whole interval at most 0.5 % above fp32: {'yes' if passed else 'NO'}" in text
    assert "int2: whole interval at most 1 % above fp32: yes" in text


def test_a_table_of_the_pairs_that_are_there_is_no_pass() -> None:
    setting = Setting(SHORT, 2, ARMS, seeds=3)
    runs = {(str(setting), arm, seed): 2.0 for arm in ARMS for seed in range(3)}
    said: list[str] = []
    assert show(setting, runs, said.append)
    del runs[str(setting), "int8", 1]
    assert not show(setting, runs, said.append)
    assert "runs are missing: a table of seeds [0, 2]" in "".join(said)


def test_nothing_is_said_of_runs_that_are_not_there() -> None:
    runs = {(str(SETTING), arm, 0): 2.0 for arm in ARMS}
    said: list[str] = []
    assert not show(SETTING, runs, said.append)
    assert "no table" in "".join(said)
