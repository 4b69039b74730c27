from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p.protocol import ledger
from swarm.data.batch import Batch
from swarm.data.mix import parse_mix
from swarm.data.reader import Reader
from swarm.data.source import DataError
from swarm.model.llama import Llama
from swarm.model.sizes import SIZES, ModelConfig
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.schedule import Schedule
from swarm.train.step_config import StepConfig
from swarm.train.trainer import InnerTrainer
from tests.swarm.data.sources import joined, reader_of, source_of

TINY = ModelConfig("tiny", dim=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab=256, tied=True)
INNER = StepConfig(batch_size=4, schedule=Schedule(1e-2, warmup_steps=5), held_out_tokens=512)
_TEXT_N = np.frombuffer((b"the quick brown fox jumps over the lazy dog; " * 200)[:8000], dtype=np.uint8)
READER = reader_of(source_of(_TEXT_N[:7000], _TEXT_N[7000:]))

T = TypeVar("T")


@pytest.fixture
def group() -> Iterator[LocalGroup]:
    with LocalGroup() as formed:
        yield formed


def trainer(
    group: LocalGroup, inner: StepConfig = INNER, model: ModelConfig = TINY, reader: Reader = READER
) -> InnerTrainer:
    made = InnerTrainer(RankTrainer(model, inner, reader, group))
    made.load_flat(made.initial(0))
    return made


def losses_of(made: InnerTrainer, steps: int, first: int = 0) -> list[float]:
    """Of steps on samples from `first` on, as if all before had been trained on."""
    losses: list[float] = []
    at = first // made.own.config.batch_size
    made.train(itertools.count(first), steps, on_step=lambda _, loss: losses.append(loss), first_step=at)
    return losses


def parameters_of(made: InnerTrainer) -> bytes:
    out_P = np.empty(made.layout.count, dtype=np.float32)
    made.store_flat(out_P)
    return out_P.tobytes()


def in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(60)
    assert results, "the thread failed"
    return results[0]


def unsharded_losses(steps: int) -> list[float]:
    """The same training in plain torch, written out."""
    model = Llama(TINY)
    with LocalGroup() as group:
        made = trainer(group)
        theta_P, layout = made.initial(0), made.layout
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            entry = layout.entry(name)
            parameter.copy_(torch.from_numpy(theta_P[entry.start : entry.stop]).view(entry.shape))
    optimizer = torch.optim.AdamW(model.parameters(), betas=INNER.betas, weight_decay=INNER.weight_decay, fused=True)
    losses = []
    for step in range(steps):
        batch = READER.batch(range(step * 4, step * 4 + 4))
        inputs_BL, targets_BL = torch.from_numpy(batch.inputs_BL), torch.from_numpy(batch.targets_BL)
        loss = F.cross_entropy(model(inputs_BL).flatten(0, 1), targets_BL.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), INNER.grad_clip)
        optimizer.param_groups[0]["lr"] = INNER.schedule(step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_one_rank_of_fsdp_gives_the_bits_of_plain_torch() -> None:
    plain = unsharded_losses(50)
    with LocalGroup() as group:
        assert losses_of(trainer(group), 50) == plain


def test_a_thread_that_did_not_form_the_group_trains_to_the_same_bits(group: LocalGroup) -> None:
    first, second = trainer(group), trainer(group)
    here = (losses_of(first, 8), first.evaluate(), parameters_of(first))
    there = in_thread(lambda: (losses_of(second, 8), second.evaluate(), parameters_of(second)))
    assert here == there


def test_the_training_thread_uses_as_many_threads_as_it_was_given(group: LocalGroup) -> None:
    made = trainer(group)

    def work() -> int:
        torch.set_num_threads(2)  # what this thread happened to have
        losses_of(made, 1)
        return torch.get_num_threads()

    assert in_thread(work) == 1


def test_training_learns_and_evaluating_changes_nothing(group: LocalGroup) -> None:
    made = trainer(group)
    before = made.evaluate()
    assert before == pytest.approx(math.log(256), abs=0.2)
    result = made.train(itertools.count(), 60)
    assert made.evaluate() < before - 1
    state = parameters_of(made)
    assert made.evaluate() == made.evaluate()
    assert parameters_of(made) == state
    assert (result.steps, result.samples, result.tokens) == (60, 240, 240 * 16)
    assert result.skipped == 0


def test_evaluation_follows_loaded_parameters(group: LocalGroup) -> None:
    """Nothing that was gathered for one evaluation may serve the next."""
    made = trainer(group)
    first = made.evaluate()
    made.train(itertools.count(), 20)
    made.evaluate()
    made.load_flat(made.initial(0))
    assert made.evaluate() == first


def test_an_evaluation_can_be_stopped_and_leaves_nothing_behind(group: LocalGroup) -> None:
    made = trainer(group)
    whole = made.evaluate()
    assert math.isnan(made.evaluate(lambda: True))
    assert made.evaluate() == whole


def test_moments_persist_over_rounds(group: LocalGroup) -> None:
    """Loading the very parameters that were stored, as a round of one member does, must not disturb the inner steps."""
    straight, in_rounds = trainer(group), trainer(group)
    expected = losses_of(straight, 12)
    losses = losses_of(in_rounds, 6)
    out_P = np.empty(in_rounds.layout.count, dtype=np.float32)
    in_rounds.store_flat(out_P)
    in_rounds.load_flat(out_P)
    assert losses + losses_of(in_rounds, 6, first=24) == expected


def test_the_loss_of_the_result_is_the_mean_of_the_steps(group: LocalGroup) -> None:
    made = trainer(group)
    losses: list[float] = []
    result = made.train(itertools.count(), 5, on_step=lambda step, loss: losses.append(loss))
    assert result.loss == pytest.approx(sum(losses) / 5)


def test_a_stop_ends_before_the_next_step_whatever_was_made_ahead(group: LocalGroup) -> None:
    made = trainer(group)
    stop = threading.Event()
    result = made.train(
        itertools.count(), 1000, should_stop=stop.is_set, on_step=lambda step, _: stop.set() if step == 2 else None
    )
    assert result.steps == 3
    assert result.samples == 12
    again = made.train(itertools.count(12), 10, should_stop=lambda: True)
    assert again.steps == again.samples == again.tokens == 0
    assert math.isnan(again.loss)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, 4), max_size=5))
def test_the_used_samples_are_those_trained_on_through_any_stops(group: LocalGroup, stops: list[int]) -> None:
    """As a node does it: the ledger takes what the result says, and the next round goes on with the rest."""
    made, trained = trainer(group), list[int]()
    step = made.own.step

    def recorded(batch: Batch, *arguments: int) -> float | None:
        trained.extend(batch.indices)
        return step(batch, *arguments)

    made.own.step = recorded  # type: ignore[method-assign]
    rest: tuple[tuple[int, int], ...] = ((3, 9), (20, 31), (40, 43))
    used: list[int] = []
    for steps_before_stop in (*stops, 100):
        asked = itertools.count()
        samples = (index for start, stop in rest for index in range(start, stop))
        result = made.train(samples, 1000, lambda: next(asked) >= 2 * steps_before_stop)  # noqa: B023
        taken, rest = ledger.take(rest, result.samples)
        used += [index for start, stop in taken for index in range(start, stop)]
        assert used == trained
    assert trained == [*range(3, 9), *range(20, 31), *range(40, 43)]


class SlowReader(Reader):
    """Each batch takes its time."""

    seconds = 0.03

    def batch(self, indices: Sequence[int]) -> Batch:
        time.sleep(self.seconds)
        return super().batch(indices)


def slow_reader() -> SlowReader:
    return SlowReader({"text": source_of(_TEXT_N[:7000], _TEXT_N[7000:])}, parse_mix("text"), 16, seed=0)


def test_data_is_made_while_steps_are_taken_and_waiting_for_it_is_measured(group: LocalGroup) -> None:
    made = trainer(group, reader=slow_reader())
    result = made.train(itertools.count(), 10, on_step=lambda _step, _loss: time.sleep(0.06))
    assert 0.0 < result.data_seconds < result.seconds
    assert result.data_seconds < 0.2, "the first batch is waited for, the others hardly: 0.3 s of reading in all"
    quick = trainer(group).train(itertools.count(), 10)
    assert quick.loss == result.loss


def test_a_stop_is_heard_while_data_is_waited_for(group: LocalGroup) -> None:
    reader, began = slow_reader(), time.monotonic()
    made = trainer(group, reader=reader)
    reader.seconds = 5.0
    result = made.train(itertools.count(), 10, should_stop=lambda: time.monotonic() > began + 0.3)
    assert (result.steps, result.samples) == (0, 0)
    assert time.monotonic() - began < 5


def test_data_that_cannot_be_read_ends_training_with_its_reason(group: LocalGroup) -> None:
    class Broken(Reader):
        def batch(self, indices: Sequence[int]) -> Batch:
            if 20 in indices:
                raise DataError("there is no train-00007.tokens in s3://bucket")
            return super().batch(indices)

    broken = Broken({"text": source_of(_TEXT_N[:7000], _TEXT_N[7000:])}, parse_mix("text"), 16, seed=0)
    losses: list[float] = []
    with pytest.raises(DataError, match="train-00007"):
        trainer(group, reader=broken).train(itertools.count(), 10, on_step=lambda _, loss: losses.append(loss))
    assert len(losses) == 5, "what comes before is trained on"


def test_a_step_of_the_demo_model_is_short_enough_to_stop_within_a_second(group: LocalGroup) -> None:
    made = trainer(group, replace(StepConfig(), held_out_tokens=128), SIZES["demo"])
    losses_of(made, 1)
    before = time.thread_time()
    losses_of(made, 1)
    assert time.thread_time() - before < 1.0


def test_samples_may_run_out(group: LocalGroup) -> None:
    made = trainer(group)
    result = made.train(iter(range(10)), 100)
    assert (result.steps, result.samples, result.tokens) == (3, 10, 160)


def test_a_step_without_a_finite_gradient_is_left_out(group: LocalGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    made, reference = trainer(group), trainer(group)
    compute = made.own._losses
    poisoned = itertools.count()

    def losses(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        nats, minimised = compute(batch)
        return (nats, minimised * math.nan) if next(poisoned) == 1 else (nats, minimised)

    monkeypatch.setattr(made.own, "_losses", losses)
    result = made.train(iter(range(12)), 3)
    assert (result.steps, result.skipped, result.samples, result.tokens) == (2, 1, 12, 8 * 16)
    assert math.isfinite(result.loss)
    losses_of(reference, 1)
    losses_of(reference, 1, first=8)
    assert parameters_of(made) == parameters_of(reference), "as if the bad batch had never been there"


def test_with_broken_parameters_no_step_is_taken(group: LocalGroup) -> None:
    made = trainer(group)
    theta_P = made.initial(0)
    theta_P[100] = np.inf
    made.load_flat(theta_P)
    result = made.train(itertools.count(), 3)
    assert (result.steps, result.skipped) == (0, 3)
    assert math.isnan(result.loss)


def test_a_gradient_limit_of_zero_means_none(group: LocalGroup) -> None:
    unlimited = trainer(group, replace(INNER, grad_clip=0.0))
    wide = trainer(group, replace(INNER, grad_clip=1e9))
    assert losses_of(unlimited, 4) == losses_of(wide, 4)


def test_documents_of_a_sample_do_not_see_each_other(group: LocalGroup) -> None:
    """The loss of two documents packed into one sample is that of each alone, together."""
    documents = [_TEXT_N[:9], _TEXT_N[31:53]]
    packed = joined(documents)
    made = trainer(group)

    def loss(text_N: np.ndarray, length: int) -> float:
        reader = reader_of(source_of(text_N), sequence_length=length)
        return made.own._losses(reader.batch([0]))[0].item()

    apart = sum(loss(packed[start:stop], stop - start) for start, stop in ((0, 10), (10, 33)))
    # Alone, an end is followed by the beginning of its own document; packed, by that of the other: both are "t".
    assert packed[0] == packed[10] == ord("t")
    assert loss(packed, packed.size) == pytest.approx(apart, rel=1e-5)
