"""The fetching machine in virtual time: speed, spread, deaths, lies, commits, and what must never happen."""

from __future__ import annotations

import random

import pytest

from p2p.protocol.donors import Request
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY, Held, Target
from p2p.protocol.serving import DeskLimits
from p2p.protocol.sizes import Sizes
from p2p.protocol.transfer import FetchCore
from p2p.protocol.transfer_actions import Ask, Drop
from p2p.protocol.transfer_messages import GetChunk, GetManifest, GetMean
from tests.p2p.protocol.records import peer
from tests.p2p.protocol.transfer_world import MIB, Newcomer, VirtualDonor, World, all_held, donors, root_of, truth

STATE = 8 * MIB
"""Bytes of a chunk."""


def fetch(world: World, **options: object) -> Newcomer:
    newcomer = Newcomer(world, **options)  # type: ignore[arg-type]
    world.run([newcomer])
    newcomer.check()
    return newcomer


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_newcomer_fills_its_link(count: int) -> None:
    """At least 80 % of 100 MiB/s down from donors that together have more."""
    world = World(200, donors(count, 80 * MIB), down=100 * MIB)
    newcomer = fetch(world)
    ideal = 200 * STATE / (100 * MIB)
    assert newcomer.finished <= ideal / 0.8
    assert newcomer.bytes <= 1.03 * 200 * STATE


def test_donors_give_by_their_speed() -> None:
    world = World(
        200, [VirtualDonor(peer(0), 90 * MIB), VirtualDonor(peer(1), 30 * MIB), VirtualDonor(peer(2), 1 * MIB)]
    )
    newcomer = fetch(world)
    assert newcomer.finished <= 1.25 * 200 * STATE / (121 * MIB)
    fast, medium, slow = (donor.given for donor in world.donors)
    assert fast > 2 * medium > 4 * slow


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_death_costs_little(percent: int) -> None:
    clean = fetch(World(100, donors(3)))
    world = World(100, donors(3))
    world.donors[1].dies_at = clean.finished * percent / 100
    newcomer = fetch(world)
    assert newcomer.bytes <= 1.2 * clean.bytes
    alone = 100 * STATE / (200 * MIB)
    assert newcomer.finished <= 1.2 * max(alone, clean.finished) + 1.0


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_donor_that_falls_silent_is_replaced(percent: int) -> None:
    clean = fetch(World(100, donors(3)))
    world = World(100, donors(3))
    world.donors[1].mute_at = clean.finished * percent / 100
    newcomer = fetch(world)
    assert newcomer.finished <= 2 * clean.finished + 2.0, "others are asked long before a time limit ends"


@pytest.mark.parametrize("at", [0.02, 0.05, 0.1])
def test_while_a_donor_stands_still_for_a_moment_nothing_is_sent_twice(at: float) -> None:
    """A chunk takes 10 ms. Who is starved of a core for 0.3 s owes thirty times that, but gives it soon."""
    world = World(60, donors(3, 800 * MIB), latency=0.001)
    world.at(at, lambda: setattr(world.donors[0], "free", at + 0.3))
    fetch(world)
    assert sum(donor.given for donor in world.donors) <= 61 * STATE


def test_silence_is_named() -> None:
    world = World(100, donors(1))
    world.donors[0].mute_at = 1.0
    newcomer = Newcomer(world)
    world.at(300.0, lambda: setattr(newcomer, "finished", 300.0))
    world.run([newcomer])
    assert "silent for" in newcomer.drops[0].reason
    assert newcomer.drops[0].peer == peer(0)


def test_eight_newcomers_spread_over_the_donors() -> None:
    world = World(60, donors(4), down=80 * MIB)
    newcomers = [Newcomer(world, f"newcomer {index}") for index in range(8)]
    world.run(newcomers)
    given = [donor.given for donor in world.donors]
    assert max(given) <= 1.25 * min(given)
    assert sum(given) <= 1.1 * 8 * 60 * STATE
    together = 8 * 60 * STATE / (400 * MIB)
    assert sum(newcomer.finished for newcomer in newcomers) / 8 <= together, "nobody is served later for order's sake"
    wave = 60 * STATE / (80 * MIB)
    for newcomer in newcomers:
        newcomer.check()
        assert newcomer.finished <= 1.1 * 2 * wave, "five fill the donors' links, then three have them"


def test_a_crowd_is_served_in_the_time_of_a_few_because_the_first_give_to_the_rest() -> None:
    rate = 10.0 * MIB
    world = World(20, donors(2, rate), grows=rate)
    newcomers = [Newcomer(world, f"newcomer {index}") for index in range(62)]
    world.run(newcomers)
    one = 20 * STATE / rate
    for newcomer in newcomers:
        newcomer.check()
        assert newcomer.finished <= 6.5 * one, "two donors alone would take 31 times as long as for one"
    assert sum(newcomer.bytes for newcomer in newcomers) <= 1.01 * 62 * 20 * STATE


@pytest.mark.parametrize(("mbit", "crowd", "count"), [(1, 1, 1), (1, 1, 3), (1, 8, 1), (10, 1, 1), (10, 8, 3)])
def test_slow_donors_waste_nothing_however_many_come(mbit: int, crowd: int, count: int) -> None:
    """A chunk takes a minute at 1 Mbit/s: nobody is taken for silent, and nothing is sent twice."""
    rate = mbit * 1e6 / 8
    limits = DeskLimits(bytes_per_second=rate, burst_bytes=rate)
    world = World(6 * count, [VirtualDonor(peer(index), limits=limits) for index in range(count)])
    newcomers = [Newcomer(world, f"newcomer {index}") for index in range(crowd)]
    world.run(newcomers, until=1e5)
    ideal = crowd * world.chunks * STATE
    assert sum(donor.given for donor in world.donors) <= 1.1 * ideal
    for newcomer in newcomers:
        newcomer.check()
        assert newcomer.finished <= 1.1 * ideal / rate / count


@pytest.mark.parametrize("period", [1.4, 2.0, 5.0])
def test_a_newcomer_catches_up_while_a_round_lasts_longer_than_its_mean_takes(period: float) -> None:
    """A mean takes 1 s of this link, the state 8: every round that commits costs a second more."""
    world = World(50, donors(3, 40 * MIB), [period * round for round in range(200)], down=50 * MIB)
    newcomer = fetch(world)
    rounds = newcomer.finished / period
    assert newcomer.finished <= 8 + 1.5 * rounds
    assert newcomer.bytes <= (1.05 + rounds / 8) * 50 * STATE
    assert newcomer.core.holdings.target.round == world.height(world.now)


def test_first_questions_of_newcomers_go_to_different_donors() -> None:
    world = World(10, donors(8))
    first = set()
    for index in range(40):
        newcomer = Newcomer(world, f"newcomer {index}")
        asked: list[str] = []
        newcomer._ask = lambda request, asked=asked: asked.append(request.peer)  # type: ignore[method-assign, misc]
        newcomer.step()
        first.add(asked[0])
    assert len(first) >= 6


@pytest.mark.parametrize("kind", [GetChunk, GetManifest])
def test_a_liar_is_named_and_costs_little(kind: type) -> None:
    world = World(100, donors(3))
    world.donors[0].lies_about = frozenset({kind})
    clean = fetch(World(100, donors(3)))
    newcomer = fetch(world)
    assert {drop.peer for drop in newcomer.drops} <= {peer(0)}
    assert newcomer.bytes <= 1.2 * clean.bytes
    if kind is GetChunk:
        assert newcomer.drops


def test_a_liar_about_means_is_named() -> None:
    world = World(100, donors(3), commits=[0.0, 0.0])
    world.donors[2].lies_about = frozenset({GetMean})
    newcomer = fetch(world, held=all_held(100, 0), starts=1.0)
    assert {drop.peer for drop in newcomer.drops} == {peer(2)}
    assert newcomer.bytes < 0.3 * 100 * STATE


def test_a_liar_alone_is_asked_again_when_its_time_is_over() -> None:
    """Nothing better can be done, and nothing false is ever taken."""
    world = World(4, donors(1))
    world.donors[0].lies_about = frozenset({GetChunk})
    newcomer = Newcomer(world)
    world.at(1000.0, lambda: setattr(newcomer, "finished", 0.0))
    world.run([newcomer])
    assert 2 <= len(newcomer.drops) <= 4
    assert all(held.round == -2 for held in newcomer.core.holdings.held)


def test_missed_rounds_cost_an_eighth_each() -> None:
    world = World(100, donors(3), commits=[0.0] * 3)
    newcomer = fetch(world, held=all_held(100, 0), starts=1.0)
    assert newcomer.replays == 200
    assert newcomer.bytes <= 2.05 / 8 * 100 * STATE


def test_many_missed_rounds_cost_the_state() -> None:
    world = World(50, donors(3), commits=[0.0] * 12)
    newcomer = fetch(world, held=all_held(50, 0), starts=1.0)
    assert newcomer.replays == 0
    assert newcomer.bytes <= 1.05 * 50 * STATE


def test_means_that_are_gone_cost_the_state() -> None:
    world = World(50, donors(3), commits=[0.0] * 4)
    for donor in world.donors:
        donor.keeps = 1
    newcomer = fetch(world, held=all_held(50, 1), starts=1.0)
    assert newcomer.bytes <= 1.1 * 50 * STATE


def test_means_of_our_own_cost_nothing() -> None:
    world = World(50, donors(3), commits=[0.0] * 3)
    newcomer = Newcomer(world, held=all_held(50, 0), starts=1.0)
    newcomer.local = {1, 2}
    world.run([newcomer])
    newcomer.check()
    assert newcomer.replays == 100
    assert newcomer.bytes == 3 * 32 * 50


def test_a_mean_of_our_own_that_is_false_is_not_used_twice() -> None:
    core = FetchCore(Sizes(Fragments.whole(4 * MIB), MIB, STATE, MIB), all_held(4, 0), b"")
    target = Target(1, b"", b"root")
    core.aim(target, {peer(0): 1}, roots={}, local={1}, height=1, now=0.0)
    (ask,) = core.poll(0.0)
    assert isinstance(ask, Ask)
    assert core.arrived(peer(0), ask.request.id, 0.1) == ask.request
    core.manifest(ask.request, [truth(index, 1) for index in range(4)], b"root")
    replays = core.poll(0.2)
    assert len(replays) == 4
    for replay in replays:
        assert core.judge_replay(replay.index, 1, bytes(32), None) is None  # type: ignore[union-attr]
    core.aim(target, {peer(0): 1}, roots={}, local={1}, height=1, now=0.3)
    asked = [action.request.message for action in core.poll(0.3) if isinstance(action, Ask)]
    assert all(isinstance(message, GetChunk) for message in asked), "base or mean was false: neither is trusted"
    assert len(asked) == 2, "as much ahead as a donor of unknown speed is asked for"
    assert all(held.round == EMPTY for held in core.holdings.held)


@pytest.mark.parametrize("vouch", [True, False])
@pytest.mark.parametrize("lag", [0.0, 0.4])
def test_commits_on_the_way_cost_their_means(vouch: bool, lag: float) -> None:
    world = World(100, donors(3, 30 * MIB), commits=[0.0, 3.0, 6.0], vouch=vouch)
    for index, donor in enumerate(world.donors):
        donor.lag = lag * index
    newcomer = fetch(world)
    assert newcomer.core.holdings.target.round == 2
    assert not newcomer.drops
    assert newcomer.bytes <= 1.25 * 100 * STATE


def test_what_is_under_way_is_bounded() -> None:
    world = World(400, donors(30))
    newcomer = fetch(world)
    assert newcomer.asked_at_once <= world.sizes.memory_bytes + 32 * 400


def test_no_work_without_sources() -> None:
    core = FetchCore(Sizes(Fragments.whole(MIB), MIB, STATE, MIB), all_held(1, 0), b"")
    assert core.poll(0.0) == []
    assert not core.done
    core.aim(Target(0, b"", b"root"), {}, roots={}, local=(), height=0, now=1.0)
    assert core.poll(1.0) == []
    assert not core.done


def test_a_root_that_the_records_refute_voids_the_manifest() -> None:
    core = FetchCore(Sizes(Fragments.whole(MIB), MIB, STATE, MIB), all_held(1, 0), b"")
    core.aim(Target(0, b"a", b"claimed"), {peer(0): 0}, roots={}, local=(), height=0, now=0.0)
    (ask,) = core.poll(0.0)
    assert isinstance(ask, Ask)
    core.arrived(peer(0), ask.request.id, 0.1)
    core.manifest(ask.request, [truth(0, 0)], b"claimed")
    assert core.done
    core.aim(Target(1, b"b", b"new"), {peer(1): 1}, roots={0: b"signed"}, local=(), height=1, now=0.2)
    assert core.holdings.manifests == {}
    assert not core.done


def test_a_chunk_of_a_round_that_never_comes() -> None:
    core = FetchCore(Sizes(Fragments.whole(MIB), MIB, STATE, MIB), [Held(-2, b"")], b"")
    core.aim(Target(0, b"a", b"root"), {peer(0): 0}, roots={}, local=(), height=0, now=0.0)
    (manifest,) = (ask.request for ask in core.poll(0.0) if isinstance(ask, Ask))
    core.arrived(peer(0), manifest.id, 0.1)
    core.manifest(manifest, [truth(0, 0)], b"root")
    (chunk,) = (ask.request for ask in core.poll(0.1) if isinstance(ask, Ask))
    assert isinstance(chunk.message, GetChunk)
    core.arrived(peer(0), chunk.id, 0.2)
    held = core.judge_chunk(chunk, 1, truth(0, 9))
    assert held is not None
    core.settle(0, held)
    assert not core.done
    assert core.poll(40.0)[-1] == Drop(peer(0), "sent a chunk of round 1, which nobody has committed")


def asked(core: FetchCore, now: float) -> list[Request]:
    return [action.request for action in core.poll(now) if isinstance(action, Ask)]


def aimed_at_round_2() -> tuple[FetchCore, list[Request]]:
    """A member at round 1 aims at round 2. The manifests of both are there; the means for its two chunks have come."""
    sizes = Sizes(Fragments.whole(2 * MIB), MIB, STATE, MIB)
    core = FetchCore(sizes, [Held(1, truth(index, 1)) for index in range(2)], b"")
    core.aim(Target(2, b"a", root_of_round(2)), {peer(0): 2}, roots={1: root_of_round(1)}, local=(), height=2, now=0.0)
    for request in asked(core, 0.0):
        core.arrived(peer(0), request.id, 0.1)
        core.manifest(request, [truth(index, request.round) for index in range(2)], root_of_round(request.round))
    requests = asked(core, 0.2)
    assert [type(request.message) for request in requests] == [GetMean, GetMean]
    for request in requests:
        core.arrived(peer(0), request.id, 0.3)
    return core, requests


def root_of_round(round: int) -> bytes:
    return root_of([truth(index, round) for index in range(2)])


def test_what_was_asked_for_in_another_history_proves_nothing() -> None:
    """Round 2 is another one since: the mean that comes is of the old one, and its sender is no liar."""
    core, (one, _) = aimed_at_round_2()
    core.leave_history(1)
    other = [bytes([index + 1]) * 32 for index in range(2)]
    core.aim(Target(2, b"b", root_of(other)), {peer(0): 2}, roots={1: root_of_round(1)}, local=(), height=2, now=0.4)
    for request in asked(core, 0.4):
        core.arrived(peer(0), request.id, 0.5)
        true = other if request.round == 2 else [truth(index, 1) for index in range(2)]
        core.manifest(request, true, root_of(true))
    assert core.judge_replay(one.index, 2, truth(one.index, 2), one) is None
    assert not [action for action in core.poll(0.6) if isinstance(action, Drop)]
    assert core.trusts(peer(0), 0.6)
    assert core.holdings.held[one.index] == Held(1, truth(one.index, 1)), "what it had before the fork is still good"


def test_who_has_left_our_history_is_no_liar() -> None:
    """What it gave may be true on its new one. Who is on ours and gives the same is a liar."""
    core, (one, other) = aimed_at_round_2()
    core.aim(Target(2, b"a", root_of_round(2)), {peer(1): 2}, roots={1: root_of_round(1)}, local=(), height=2, now=0.4)
    assert core.judge_replay(one.index, 2, bytes(32), one) is None
    drops = [action for action in core.poll(0.5) if isinstance(action, Drop)]
    assert [drop.peer for drop in drops] == [peer(0)]
    assert "may have left our history" in drops[0].reason
    assert core.trusts(peer(0), 0.5)
    donors = {peer(0): 2, peer(1): 2}
    core.aim(Target(2, b"a", root_of_round(2)), donors, roots={1: root_of_round(1)}, local=(), height=2, now=0.6)
    assert core.judge_replay(other.index, 2, bytes(32), other) is None
    drops = [action for action in core.poll(0.7) if isinstance(action, Drop)]
    assert drops == [Drop(peer(0), f"sent a false mean of round 2 for chunk {other.index}")]
    assert not core.trusts(peer(0), 0.7)


def test_an_answer_after_its_time_is_ignored() -> None:
    core = FetchCore(Sizes(Fragments.whole(MIB), MIB, STATE, MIB), [Held(-2, b"")], b"")
    core.aim(Target(0, b"a", b"root"), {peer(0): 0}, roots={}, local=(), height=0, now=0.0)
    requests = [ask.request for ask in core.poll(0.0) if isinstance(ask, Ask)]
    core.lost(peer(0), "reset", 0.1)
    for request in requests:
        assert core.request(peer(0), request.id) is None
        assert core.arrived(peer(0), request.id, 0.2) is None
        core.refused(peer(0), request.id, 0.2)
    core.lost(peer(9), "reset", 0.3)
    assert core.request(peer(9), 1) is None
    core.moved(peer(9), 0.3)
    assert not [action for action in core.poll(0.3) if isinstance(action, Ask)], "it is left alone for a while"
    assert [action for action in core.poll(2.0) if isinstance(action, Ask)]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_truth_is_fetched(seed: int) -> None:
    """Random donors die, fall silent or lie while rounds commit; one honest donor stays. It ends, and all is true."""
    draw = random.Random(seed)
    crowd = donors(draw.randint(2, 6), 20 * MIB)
    for donor in crowd[1:]:
        donor.rate = draw.choice([2, 20, 60]) * MIB
        fate = draw.choice(["honest", "dies", "mute", "liar"])
        if fate == "dies":
            donor.dies_at = draw.uniform(0.0, 20.0)
        if fate == "mute":
            donor.mute_at = draw.uniform(0.0, 20.0)
        if fate == "liar":
            donor.lies_about = frozenset(draw.sample([GetChunk, GetManifest, GetMean], draw.randint(1, 3)))
        donor.lag = draw.choice([0.0, 0.3])
        donor.keeps = draw.randint(1, 4)
    commits = sorted(draw.uniform(0.0, 15.0) for _ in range(draw.randint(0, 4)))
    world = World(draw.randint(1, 30), crowd, commits, vouch=draw.random() < 0.5)
    start = draw.choice([-2, -1, 0])
    held = [Held(-2, b"")] * world.chunks if start == -2 or start >= len(commits) else all_held(world.chunks, start)
    newcomer = fetch(world, held=held, starts=draw.choice([0.0, 5.0]))
    honest = {donor.name for donor in crowd if not donor.lies_about}
    for drop in newcomer.drops:
        assert drop.peer not in honest or "silent" in drop.reason or "link" in drop.reason, drop
