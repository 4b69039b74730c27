"""A snapshot is of one round, bit for bit, whatever happens to the state while it is read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.codec import get_codec
from ops.encoded import Encoded
from p2p.protocol.holdings import EMPTY
from swarm.checkpoint.snapshot import Snapshot
from swarm.outer_state import OuterState
from tests.swarm.checkpoint.saved import LAYOUT, state_at


def mean_of(seed: int) -> Encoded:
    values = np.random.default_rng(seed).standard_normal(LAYOUT.count).astype(np.float32)
    mean = Encoded.allocate(get_codec("int8"), LAYOUT.count)
    mean.codec.quantise(values, mean)
    return mean


def read_all(snapshot: Snapshot, first: int = 0) -> tuple[bytes, bytes]:
    chunks = [snapshot.read(index) for index in range(first, snapshot.chunks)]
    return b"".join(theta.tobytes() for theta, _ in chunks), b"".join(momentum.tobytes() for _, momentum in chunks)


def now(state: OuterState) -> tuple[bytes, bytes]:
    return state.theta_P.tobytes(), state.momentum_P.tobytes()


@settings(max_examples=20)
@given(read_before=st.integers(0, 5), rounds=st.integers(0, 3))
async def test_what_is_read_is_what_was_there_however_much_is_read_before_the_next_rounds(
    read_before: int, rounds: int
) -> None:
    with ThreadPoolExecutor(2) as pool:
        state = state_at(4, pool)
        before, snapshot = now(state), state.snapshot()
        parts = [snapshot.read(index) for index in range(read_before)]
        for round in range(5, 5 + rounds):
            await state.apply(mean_of(round), round)
        parts += [snapshot.read(index) for index in range(read_before, snapshot.chunks)]
        assert b"".join(theta.tobytes() for theta, _ in parts) == before[0]
        assert b"".join(momentum.tobytes() for _, momentum in parts) == before[1]
        assert (now(state) == before) == (rounds == 0)


async def test_nothing_is_copied_while_nothing_changes() -> None:
    with ThreadPoolExecutor(2) as pool:
        state = state_at(4, pool)
        snapshot = state.snapshot()
        await state.apply(None, 5)
        assert snapshot.bytes_kept == 0
        await state.apply(mean_of(6), 6)
        assert snapshot.bytes_kept == 8 * LAYOUT.count
        read_all(snapshot, first=1)
        assert snapshot.bytes_kept == snapshot.read(0)[0].nbytes * 2
        assert snapshot.bytes_kept == 0


async def test_two_snapshots_and_a_released_one() -> None:
    with ThreadPoolExecutor(2) as pool:
        state = state_at(4, pool)
        first, states = state.snapshot(), [now(state)]
        await state.apply(mean_of(5), 5)
        second, gone, states = state.snapshot(), state.snapshot(), [*states, now(state)]
        state.release(gone)
        await state.apply(mean_of(6), 6)
        assert gone.bytes_kept == 0
        assert [read_all(first), read_all(second)] == states
        assert (first.round, second.round) == (4, 5)


async def test_a_chunk_that_is_written_over_is_kept_too() -> None:
    with ThreadPoolExecutor(2) as pool:
        state, other = state_at(4, pool), state_at(7, pool)
        before, snapshot = now(state), state.snapshot()
        for index in range(state.chunks):
            state.write(index, 7, other.read(index)[1])
        assert read_all(snapshot) == before


async def test_a_reader_races_with_rounds() -> None:
    with ThreadPoolExecutor(2) as pool:
        state = state_at(4, pool)
        for round in range(5, 40):
            before, snapshot = now(state), state.snapshot()
            found: list[tuple[bytes, bytes]] = []
            reader = threading.Thread(target=lambda snapshot=snapshot, found=found: found.append(read_all(snapshot)))
            reader.start()
            await state.apply(mean_of(round), round)
            reader.join()
            assert found == [before]
            state.release(snapshot)


def test_a_state_of_several_rounds_has_no_snapshot() -> None:
    with ThreadPoolExecutor(2) as pool:
        state = state_at(EMPTY, pool, seed=0)
        with pytest.raises(AssertionError):
            state.snapshot()
