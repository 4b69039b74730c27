"""The shell of the butterfly over links in memory: real codecs, real threads, arbitrary order."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.codec import CODECS, Codec, Encoded, NonFinite
from ops.error_feedback import ErrorFeedback
from ops.jit import Floats
from ops.memory import private_memory
from p2p.protocol.ballot import Ballot
from p2p.protocol.message import Message
from p2p.protocol.messages import Go, Mean, Part, Plan, Promise
from p2p.protocol.model import BadMessage
from p2p.protocol.plan import Head, Rules
from p2p.protocol.repair import repaired
from p2p.protocol.routes import Routes
from p2p.reduce.early import EARLY_PARTS
from p2p.reduce.reducer import BESIDES, Reducer, ReduceResult, Source, segment_digest
from p2p.reduce.uplink import Uplink
from tests.p2p.protocol.drafts import plan_of
from tests.p2p.protocol.records import FINGERPRINT, peer
from tests.p2p.reduce.memory_carrier import DEADLINE_S, Network, settle, until

POOL = ThreadPoolExecutor(2)
"""Of the process, not of this file: the storms of tests/fuzz use it, too."""


def vectors_of(members: int, count: int, seed: int) -> list[Floats]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(count).astype(np.float32) for _ in range(members)]


def source_of(codec: Codec, x_P: Floats) -> Source:
    def source(start: int, stop: int, out: Encoded) -> None:
        codec.quantise(x_P[start:stop], out)

    return source


def encoded(codec: Codec, x_P: Floats) -> Encoded:
    out = Encoded.allocate(codec, len(x_P))
    codec.quantise(x_P, out)
    return out


def decoded(src: Encoded) -> Floats:
    out = np.empty(src.count, np.float32)
    src.codec.decode(src, out)
    return out


def bytes_of(src: Encoded) -> bytes:
    return b"".join(src.buffers())


def expected_mean(codec: Codec, x_NP: Sequence[Floats], weights: Sequence[int]) -> Encoded:
    """Of whole vectors, in one go: each one's codes times its share of the weight, added in rank order, quantised."""
    parts = [(encoded(codec, x_P), weight) for x_P, weight in zip(x_NP, weights, strict=True) if weight]
    if len(parts) == 1 and codec.of_means is codec:
        return parts[0][0]
    total = float(sum(weights))
    sum_P = np.zeros(len(x_NP[0]), np.float32)
    for part, weight in parts:
        codec.decode_add(part, np.float32(weight / total), sum_P)
    exact_P = sum(decoded(part).astype(np.float64) * (weight / total) for part, weight in parts)
    np.testing.assert_allclose(sum_P, exact_P, atol=1e-5)
    return encoded(codec.of_means, sum_P)


def members_of(
    network: Network, plan: Plan, count: int, codec: Codec, *, narrow: bool = False, **options: object
) -> list[Reducer]:
    """`narrow`: they send each other fewer bytes, if that is possible."""
    for name in plan.draft.members:
        uplink = Uplink()
        uplink.ways = dict.fromkeys(plan.draft.members, 0.0) if narrow else {}
        reducer = Reducer(codec, count, name, network.carrier(name), POOL, uplink=uplink, **options)  # type: ignore[arg-type]
        network.reducers[name] = reducer
    return list(network.reducers.values())


def begin(reducers: Sequence[Reducer], plan: Plan, codec: Codec, x_NP: Sequence[Floats]) -> None:
    for reducer, x_P, weight in zip(reducers, x_NP, plan.draft.weights, strict=True):
        reducer.begin_round(plan.ballot.round, source_of(codec, x_P) if weight else None)


async def all_reduce(reducers: Sequence[Reducer], plan: Plan) -> list[ReduceResult]:
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.gather(*(reducer.reduce(plan) for reducer in reducers))


def assert_equal_to(expected: Encoded, results: Sequence[ReduceResult], plan: Plan) -> None:
    for result in results:
        assert bytes_of(result.mean) == bytes_of(expected)
        bounds = itertools.pairwise([0, *(segment.stop for segment in plan.draft.segments)])
        assert result.digests == tuple(segment_digest(expected.slice(start, stop)) for start, stop in bounds)


def waiting_on(reducer: Reducer) -> tuple[str, ...]:
    books = reducer.progress()
    assert books is not None
    return books.waiting_on()


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    network = Network()
    yield network
    for reducer in network.reducers.values():
        await reducer.close()
    assert len(asyncio.all_tasks()) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(CODECS)),
    weights=st.lists(st.integers(0, 10**9), min_size=1, max_size=5).filter(any),
    count=st.integers(1, 40_000),
    cuts=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    size=st.integers(1, 20_000),
    window=st.integers(0, 200_000),
    narrow=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
async def test_any_cut_gives_the_direct_mean_bit_for_bit_on_every_member(
    name: str, weights: list[int], count: int, cuts: list[float], size: int, window: int, narrow: bool, seed: int
) -> None:
    codec = CODECS[name]
    blocks = -(-count // codec.block)
    piece = -(-size // codec.block) * codec.block
    inner = sorted(
        min(int(cut * (blocks + 1)) * codec.block // piece * piece, count) for cut in cuts[: len(weights) - 1]
    )
    plan = plan_of(weights, count, codec.block, spans=[0, *inner, count], piece=piece, codec=name)
    network = Network(seed)
    reducers = members_of(network, plan, count, codec, window_bytes=window, narrow=narrow)
    x_NP = vectors_of(len(weights), count, seed)
    begin(reducers, plan, codec, x_NP)
    results = await all_reduce(reducers, plan)
    assert_equal_to(expected_mean(codec, x_NP, weights), results, plan)
    assert network.refused == []
    for reducer in reducers:
        books = reducer.progress()
        assert books is not None
        assert books.waiting_on() == ()
        assert books.values_held == count
        await reducer.close()


@pytest.mark.parametrize("name", sorted(CODECS))
async def test_equal_members_send_the_least_there_is(network: Network, name: str) -> None:
    codec, members, count = CODECS[name], 4, 1 << 20
    plan = plan_of([5] * members, count, codec.block, codec=name)
    reducers = members_of(network, plan, count, codec)
    begin(reducers, plan, codec, vectors_of(members, count, 1))
    await all_reduce(reducers, plan)
    await asyncio.sleep(0)
    bound = 2 * (members - 1) / members * count * codec.reduce_bits_per_value / 8
    sent = [network.payload_sent[name] for name in plan.draft.members]
    assert sum(sent) == pytest.approx(members * bound)
    assert max(sent) <= 1.001 * bound


@pytest.mark.parametrize(("name", "part"), [("fp32", 1.0), ("int8", 0.93), ("int4", 0.88), ("int2", 0.97)])
async def test_over_a_narrow_uplink_they_send_less(network: Network, name: str, part: float) -> None:
    codec, members, count = CODECS[name], 3, 1 << 20
    plan = plan_of([5] * members, count, codec.block, codec=name)
    reducers = members_of(network, plan, count, codec, narrow=True)
    x_NP = vectors_of(members, count, 1)
    begin(reducers, plan, codec, x_NP)
    assert_equal_to(expected_mean(codec, x_NP, [5] * members), await all_reduce(reducers, plan), plan)
    await asyncio.sleep(0)
    bound = 2 * (members - 1) * count * codec.reduce_bits_per_value / 8
    assert sum(network.payload_sent.values()) <= 1.0001 * part * bound


async def test_packed_codes_that_are_none_are_refused(network: Network) -> None:
    def tamper(message: Message, payload: list[memoryview]) -> Message:
        payload[-1] = payload[-1][:-1]
        return message

    assert "packed codes" in await attacked(network, tamper)


async def test_rounds_follow_each_other_in_the_same_memory(network: Network) -> None:
    codec, count = CODECS["int8"], 100_000
    reducers: list[Reducer] = []
    for round in range(4):
        plan = plan_of([1, 2, 0], count, codec.block, ballot=(round, 0, 0))
        reducers = reducers or members_of(network, plan, count, codec)
        x_NP = vectors_of(3, count, round)
        begin(reducers, plan, codec, x_NP)
        assert_equal_to(expected_mean(codec, x_NP, plan.draft.weights), await all_reduce(reducers, plan), plan)
    assert network.refused == []


async def test_memory_is_used_again_unless_somebody_looks_at_it(network: Network) -> None:
    codec, count = CODECS["int8"], 100_000
    reducers: list[Reducer] = []
    kept: list[tuple[ReduceResult, bytes]] = []
    addresses: list[int] = []
    for round in range(8):
        plan = plan_of([1, 1], count, codec.block, ballot=(round, 0, 0))
        reducers = reducers or members_of(network, plan, count, codec)
        begin(reducers, plan, codec, vectors_of(2, count, round))
        result = (await all_reduce(reducers, plan))[0]
        addresses.append(result.mean.codes.ctypes.data)
        kept = [*kept, (result, bytes_of(result.mean))][-2:]
        for older, content in kept:
            assert bytes_of(older.mean) == content
    assert len(set(addresses)) < len(addresses)


async def test_a_hostile_permission_that_comes_early_does_not_harm(network: Network) -> None:
    codec, count = CODECS["int8"], 100_000
    plan = plan_of([1, 1, 1], count, codec.block)
    reducers = members_of(network, plan, count, codec)
    begin(reducers, plan, codec, vectors_of(3, count, 5))
    reducers[0].on_go("a stranger", Go(ballot=plan.ballot, room=0, parts=b"", means=b""))
    reducers[0].on_go(peer(1), Go(ballot=plan.ballot, room=10**9, parts=b"", means=b""))
    later = Ballot(round=9, attempt=0, rank=0, lineage=0)
    reducers[0].on_go(peer(2), Go(ballot=later, room=0, parts=b"", means=b""))
    await all_reduce(reducers, plan)
    assert network.refused == []


async def test_a_lone_member_gets_its_own_codes(network: Network) -> None:
    codec, count = CODECS["int8"], 50_000
    plan = plan_of([9], count, codec.block)
    (reducer,) = members_of(network, plan, count, codec)
    x_NP = vectors_of(1, count, 3)
    begin([reducer], plan, codec, x_NP)
    assert_equal_to(encoded(codec, x_NP[0]), [await reducer.reduce(plan)], plan)
    assert network.log == []


@pytest.mark.parametrize("narrow", [False, True])
async def test_to_whom_the_plan_comes_late_some_parts_come_first_and_nothing_twice(
    network: Network, narrow: bool
) -> None:
    codec, count = CODECS["int8"], 2_000_000
    plan = plan_of([1, 1, 1], count, codec.block, piece=8 * codec.block)
    reducers = members_of(network, plan, count, codec, narrow=narrow)
    x_NP = vectors_of(3, count, 3)
    begin(reducers, plan, codec, x_NP)
    soon = [asyncio.create_task(reducer.reduce(plan)) for reducer in reducers[:2]]

    def to_the_last() -> Counter[str]:
        return Counter(message.KIND for _, to, message in network.log if to == peer(2))

    await until(lambda: to_the_last() == {"go": 2, "part": 2 * EARLY_PARTS})
    await settle()
    assert to_the_last() == {"go": 2, "part": 2 * EARLY_PARTS}
    assert peer(2) in waiting_on(reducers[0])
    results = [await reducers[2].reduce(plan), *await asyncio.gather(*soon)]
    assert_equal_to(expected_mean(codec, x_NP, plan.draft.weights), results, plan)
    sent = Counter((a, b, message.KIND, message.start) for a, b, message in network.log if not isinstance(message, Go))
    assert set(sent.values()) == {1}
    assert not network.refused


async def test_parts_that_came_before_the_plan_are_gone_with_their_link(network: Network) -> None:
    codec, count = CODECS["int8"], 600_000
    plan = plan_of([1, 1], count, codec.block)
    reducers = members_of(network, plan, count, codec)
    x_NP = vectors_of(2, count, 3)
    begin(reducers, plan, codec, x_NP)
    soon = asyncio.create_task(reducers[0].reduce(plan))
    await until(lambda: any(isinstance(message, Part) for *_, message in network.log))
    network.break_link(peer(0), peer(1))
    network.mend_link(peer(0), peer(1))
    results = [await reducers[1].reduce(plan), await soon]
    assert_equal_to(expected_mean(codec, x_NP, plan.draft.weights), results, plan)


async def test_a_new_link_brings_again_what_came_early_over_one_whose_end_was_not_noticed(network: Network) -> None:
    codec, count = CODECS["int8"], 10_000
    plan = plan_of([1, 1], count, codec.block)
    reducer, _ = members_of(network, plan, count, codec)
    part, size = Part(ballot=plan.ballot, start=0, stop=1024), Encoded.allocate(codec, 1024).nbytes
    assert reducer.open_payload(peer(1), part, size)
    reducer.on_link_up(peer(1))
    assert reducer.open_payload(peer(1), part, size)


async def test_an_early_part_that_is_no_piece_is_told_of(network: Network) -> None:
    codec, count, heard = CODECS["int8"], 10_000, list[tuple[str, dict[str, object]]]()
    plan = plan_of([1, 1], count, codec.block)
    (reducer, other) = members_of(network, plan, count, codec, listener=lambda *event: heard.append(event))
    begin([reducer, other], plan, codec, vectors_of(2, count, 5))
    part, codes = Part(ballot=plan.ballot, start=0, stop=1024), Encoded.allocate(codec, 1024)
    space = reducer.open_payload(peer(1), part, codes.nbytes)
    assert space is not None
    for view in space:
        view[:] = bytes(len(view))
    reducer.on_payload(peer(1), part, space)
    await all_reduce([reducer, other], plan)
    assert [(kind, fields["message"], fields["peer"]) for kind, fields in heard] == [
        ("refused_message", "part", peer(1))
    ]


async def cancelled(task: asyncio.Task[ReduceResult]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_survivors_of_a_death_reduce_again_with_the_codes_they_have(network: Network) -> None:
    codec, count = CODECS["int8"], 300_000
    plan = plan_of([3, 1, 2], count, codec.block, codec=codec.name)
    reducers = members_of(network, plan, count, codec)
    x_NP = vectors_of(3, count, 3)
    quantised: list[tuple[int, int]] = []

    def counting(start: int, stop: int, out: Encoded) -> None:
        quantised.append((start, stop))
        codec.quantise(x_NP[0][start:stop], out)

    begin(reducers, plan, codec, x_NP)
    reducers[0].begin_round(plan.ballot.round, counting)
    # Member 1 never starts: it died after its Ready.
    tasks = [asyncio.create_task(reducers[i].reduce(plan)) for i in (0, 2)]
    await until(lambda: any(isinstance(message, Part) for _, _, message in network.log))
    for task in tasks:
        await cancelled(task)
    again = plan_of([3, 2], count, codec.block, members=[peer(0), peer(2)], ballot=(3, 1, 0))
    results = await all_reduce([reducers[0], reducers[2]], again)
    assert_equal_to(expected_mean(codec, [x_NP[0], x_NP[2]], [3, 2]), results, again)
    assert len(quantised) == len(set(quantised))
    assert network.refused == []


async def test_a_death_in_the_middle_costs_only_what_the_dead_owned_or_still_owed(network: Network) -> None:
    codec, count = CODECS["int8"], 1_200_000
    rules = Rules(FINGERPRINT, count, codec.name, codec.block, quota=0)
    plan = plan_of([3, 1, 2, 4], count, codec.block, piece=20 * 1024)
    reducers = members_of(network, plan, count, codec)
    x_NP = vectors_of(4, count, 3)
    begin(reducers, plan, codec, x_NP)
    tasks = [asyncio.create_task(reducer.reduce(plan)) for reducer in reducers]
    everything = sum(len(stretch) for stretch in Routes(plan, count).stretches)
    await until(lambda: sum(isinstance(message, Mean) for _, _, message in network.log) > everything)
    for reducer in reducers[:3]:
        network.break_link(reducer._me, peer(3))
    tasks.pop().cancel()
    reports = {reducer._me: promise_of(plan, reducer) for reducer in reducers[:3]}
    for task in tasks:
        await cancelled(task)
    before = dict(network.payload_sent)
    ballot = Ballot(round=3, attempt=1, rank=0, lineage=0)
    again = repaired(rules, Head(FINGERPRINT), ballot, plan, reports, [peer(0), peer(1), peer(2)])
    assert again is not None
    results = await all_reduce(reducers[:3], again)
    codes = {rank: encoded(codec, x_P) for rank, x_P in enumerate(x_NP)}
    for stretch in Routes(again, count).stretches:
        bounds = stretch.first * again.draft.piece, min(stretch.stop * again.draft.piece, count)
        names = [again.draft.members[rank] for rank in stretch.contributors]
        ranks = [plan.draft.members.index(name) for name in names]
        expected = Encoded.allocate(codec, bounds[1] - bounds[0])
        codec.mean([codes[rank].slice(*bounds) for rank in ranks], stretch.weights, expected)
        for result in results:
            assert bytes_of(result.mean.slice(*bounds)) == bytes_of(expected)
    assert len({result.digests for result in results}) == 1
    assert again.draft.seats[3].present is False, "what it gave to others stays"
    whole = 2 * 3 / 4 * count * codec.bits_per_value / 8
    repair = max(network.payload_sent[name] - before[name] for name in reports)
    assert repair < 0.75 * whole
    assert network.refused == []


def promise_of(plan: Plan, reducer: Reducer) -> Promise:
    books = reducer.progress()
    assert books is not None
    means, parts = books.leading_means(), books.leading_parts()
    return Promise(ballot=plan.ballot, ready=None, plan=plan, means=means, parts=parts, vote=None, voted=None)


async def test_a_broken_link_is_taken_up_where_it_broke(network: Network) -> None:
    codec, count = CODECS["int8"], 400_000
    plan = plan_of([1, 1, 1], count, codec.block, piece=4096)
    reducers = members_of(network, plan, count, codec)
    x_NP = vectors_of(3, count, 5)
    begin(reducers, plan, codec, x_NP)
    tasks = [asyncio.create_task(reducer.reduce(plan)) for reducer in reducers]
    pieces = [0]
    for breaks in range(1, 6):
        await until(lambda: sum(not isinstance(message, Go) for _, _, message in network.log) > 20 + pieces[-1])
        pieces.append(pieces[-1] + 20)
        a, b = peer(breaks % 3), peer((breaks + 1) % 3)
        network.break_link(a, b)
        await asyncio.sleep(0)
        network.mend_link(a, b)
    async with asyncio.timeout(DEADLINE_S):
        results = await asyncio.gather(*tasks)
    assert_equal_to(expected_mean(codec, x_NP, plan.draft.weights), results, plan)
    assert network.refused == []


async def test_a_link_that_stays_broken_is_reported_and_does_not_end_the_attempt(network: Network) -> None:
    codec, count = CODECS["int8"], 100_000
    plan = plan_of([1, 1, 1], count, codec.block)
    reducers = members_of(network, plan, count, codec)
    begin(reducers, plan, codec, vectors_of(3, count, 5))
    network.cut.add(frozenset((peer(0), peer(1))))
    tasks = [asyncio.create_task(reducer.reduce(plan)) for reducer in reducers]
    await until(lambda: any(isinstance(message, Part) for _, _, message in network.log))
    await settle()
    assert peer(1) in waiting_on(reducers[0])
    assert peer(0) in waiting_on(reducers[1])
    for task in tasks:
        await cancelled(task)


async def test_a_member_is_served_after_we_are_done(network: Network) -> None:
    codec, count = CODECS["int8"], 200_000
    plan = plan_of([1, 1, 0], count, codec.block, spans=[0, 100 * 1024, count, count], piece=20 * 1024)
    reducers = members_of(network, plan, count, codec)
    x_NP = vectors_of(3, count, 5)
    begin(reducers, plan, codec, x_NP)
    results = await all_reduce(reducers[:2], plan)
    results.append(await reducers[2].reduce(plan))
    assert_equal_to(expected_mean(codec, x_NP, plan.draft.weights), results, plan)


async def test_a_source_with_a_nan_ends_the_attempt_with_its_error(network: Network) -> None:
    codec, count = CODECS["int8"], 100_000
    plan = plan_of([1, 1], count, codec.block)
    reducers = members_of(network, plan, count, codec)
    x_NP = vectors_of(2, count, 5)
    x_NP[0][77_777] = np.nan
    begin(reducers, plan, codec, x_NP)
    with pytest.raises(NonFinite):
        await reducers[0].reduce(plan)


# --- hostile peers ---------------------------------------------------------------------------------------------------


async def attacked(network: Network, tamper: object) -> str:
    """Member 1 tampers with what it sends to member 0; why member 0 refused it. Nobody's sum is harmed."""
    codec, count = CODECS["int8"], 200_000
    plan = plan_of([1, 1, 1], count, codec.block)
    reducers = members_of(network, plan, count, codec)
    begin(reducers, plan, codec, vectors_of(3, count, 5))

    def only_member_1(a: str, b: str, message: Message, payload: list[memoryview]) -> Message:
        return tamper(message, payload) if (a, b) == (peer(1), peer(0)) else message  # type: ignore[operator]

    network.tamper = only_member_1
    tasks = [asyncio.create_task(reducer.reduce(plan)) for reducer in reducers]
    await until(lambda: bool(network.refused))
    await settle()
    assert peer(1) in waiting_on(reducers[0])
    for task in tasks:
        await cancelled(task)
    assert {(liar, victim) for liar, victim, _ in network.refused} == {(peer(1), peer(0))}
    return network.refused[0][2]


async def test_scales_that_are_not_finite_are_refused(network: Network) -> None:
    def tamper(message: Message, payload: list[memoryview]) -> Message:
        payload[0] = memoryview(np.full(payload[0].nbytes // 4, np.inf, np.float32).tobytes())
        return message

    assert "cannot come from finite values" in await attacked(network, tamper)


async def test_a_payload_of_another_size_is_refused(network: Network) -> None:
    def tamper(message: Message, payload: list[memoryview]) -> Message:
        payload.append(memoryview(b"x"))
        return message

    assert "belong" in await attacked(network, tamper)


async def test_a_range_that_is_no_piece_is_refused(network: Network) -> None:
    def tamper(message: Message, payload: list[memoryview]) -> Message:
        assert isinstance(message, Part | Mean)
        return message.model_copy(update={"start": message.start + 1024})

    assert "no piece of" in await attacked(network, tamper)


async def test_a_ballot_that_we_have_not_agreed_to_is_refused(network: Network) -> None:
    def tamper(message: Message, payload: list[memoryview]) -> Message:
        assert isinstance(message, Part | Mean)
        ballot = Ballot(round=3, attempt=1, rank=0, lineage=0)
        return Mean(ballot=ballot, start=message.start, stop=message.stop)

    assert "without being asked" in await attacked(network, tamper)


async def test_pieces_of_attempts_that_ended_are_dropped(network: Network) -> None:
    codec, count = CODECS["int8"], 10_000
    plan = plan_of([1, 1], count, codec.block, ballot=(3, 2, 1))
    reducer, other = members_of(network, plan, count, codec)
    part = Part(ballot=Ballot(round=3, attempt=1, rank=0, lineage=0), start=0, stop=1024)
    begin([reducer, other], plan, codec, vectors_of(2, count, 5))
    await all_reduce([reducer, other], plan)
    assert reducer.open_payload(peer(1), part, 1028) is None
    reducer.on_payload(peer(1), part, None)
    reducer.on_go(peer(1), Go(ballot=part.ballot, room=10**6, parts=b"", means=b""))
    assert reducer.open_payload(peer(1), Part(ballot=plan.ballot, start=0, stop=5120), 5140) is None  # a repetition
    reducer.on_payload(peer(1), Part(ballot=plan.ballot, start=0, stop=5120), [])
    reducer.begin_round(4, None)
    assert reducer.open_payload(peer(1), Part(ballot=plan.ballot, start=0, stop=5120), 5140) is None


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "int4"},
        {"piece": 1000},
        {"segments": ()},
        {"segments": plan_of([1, 1], 9216, 1024).draft.segments},
        {"segments": plan_of([1], 10_000, 1024).draft.segments},
        {"seats": plan_of([1, 1], 1, 1, members=[peer(1), peer(2)]).draft.seats},
        {"seats": plan_of([0, 0], 1, 1).draft.seats},
    ],
)
async def test_a_plan_that_does_not_fit_is_refused(network: Network, change: dict[str, object]) -> None:
    codec, count = CODECS["int8"], 10_000
    plan = plan_of([1, 1], count, codec.block)
    reducer = members_of(network, plan, count, codec)[0]
    reducer.begin_round(3, source_of(codec, vectors_of(1, count, 0)[0]))
    with pytest.raises(BadMessage):
        await reducer.reduce(plan.model_copy(update={"draft": plan.draft.model_copy(update=change)}))
    with pytest.raises(BadMessage, match="after"):
        await reducer.reduce(plan.model_copy(update={"ballot": Ballot(round=4, attempt=0, rank=0, lineage=0)}))
    reducer.begin_round(3, None)
    with pytest.raises(BadMessage, match="weight that we did not report"):
        await reducer.reduce(plan)
    done = tuple(route.model_copy(update={"done": True}) for route in plan.routes)
    reducer.begin_round(3, source_of(codec, vectors_of(1, count, 0)[0]))
    with pytest.raises(BadMessage, match="serve what we do not have"):
        await reducer.reduce(plan.model_copy(update={"routes": done}))


async def test_an_attempt_is_not_made_twice(network: Network) -> None:
    codec, count = CODECS["int8"], 10_000
    plan = plan_of([1], count, codec.block)
    (reducer,) = members_of(network, plan, count, codec)
    reducer.begin_round(3, source_of(codec, vectors_of(1, count, 0)[0]))
    await reducer.reduce(plan)
    with pytest.raises(BadMessage):
        await reducer.reduce(plan)


async def test_means_are_written_by_whom_the_reducer_was_told_to_ask(network: Network) -> None:
    """A coarse codec's error feedback sees each piece that its member reduces, and what was written of it."""
    codec, count = CODECS["int2"], 20_000
    plan = plan_of([3, 1, 2], count, codec.block, codec=codec.name)
    feedbacks = [ErrorFeedback(codec, count) for _ in plan.draft.members]
    for name, feedback in zip(plan.draft.members, feedbacks, strict=True):
        network.reducers[name] = Reducer(codec, count, name, network.carrier(name), POOL, write=feedback.mean)
    reducers = list(network.reducers.values())
    x_NP = vectors_of(3, count, 5)
    begin(reducers, plan, codec, x_NP)
    results = await all_reduce(reducers, plan)
    assert_equal_to(expected_mean(codec, x_NP, plan.draft.weights), results, plan)
    for feedback, result, weight in zip(feedbacks, results, plan.draft.weights, strict=True):
        feedback.commit(result.mean, weight / 6)
    shares = [np.float64(weight / 6) for weight in plan.draft.weights]
    sent_NP = [decoded(encoded(codec, x_P)) for x_P in x_NP]
    sum_P = sum(share * sent_P for share, sent_P in zip(shares, sent_NP, strict=True))
    owed_P = sum(share * feedback.carry_P for share, feedback in zip(shares, feedbacks, strict=True))
    np.testing.assert_allclose(decoded(results[0].mean) + owed_P, sum_P, atol=1e-5)


async def test_memory_for_means_is_made_ready_beside_the_loop_before_the_first_reduce(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, count, held = CODECS["int8"], 50_000, 3
    by_main, made = list[bool](), list[int]()
    monkeypatch.setattr(
        "p2p.reduce.reducer.touch",
        lambda _memory: by_main.append(threading.current_thread() is threading.main_thread()),
    )
    plans = [plan_of([1, 1], count, codec.block, ballot=(round, 0, 0)) for round in range(8)]
    reducers = members_of(network, plans[0], count, codec, held=[count] * held)
    await until(lambda: len(by_main) == 2 * (held + BESIDES))
    assert not any(by_main)

    def counted(size: int) -> mmap.mmap:
        made.append(size)
        return private_memory(size)

    monkeypatch.setattr("p2p.reduce.recycler.private_memory", counted)
    kept: deque[list[ReduceResult]] = deque(maxlen=held)
    for plan in plans:
        begin(reducers, plan, codec, vectors_of(2, count, 1))
        kept.append(await all_reduce(reducers, plan))
    assert max(made, default=0) < count
