"""The books of the butterfly under random schedules: N cores, a network that delays at will, links that break."""

from __future__ import annotations

import random
from collections import Counter, deque
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.ballot import Ballot
from p2p.protocol.butterfly import MIN_ROOM, Butterfly
from p2p.protocol.messages import Go, Mean, Part, Plan, Promise
from p2p.protocol.model import BadMessage
from p2p.protocol.plan import Head, Rules
from p2p.protocol.repair import adopted, most_segments, repaired
from tests.p2p.protocol.drafts import plan_of
from tests.p2p.protocol.records import FINGERPRINT, peer


class Swarm:
    """Cores joined by FIFO links, two a direction as in the real carrier: one for Go, one for pieces."""

    def __init__(
        self, cores: dict[str, Butterfly], seed: int, *, late: int = 0, breaks: int = 0, unasked: int = 0
    ) -> None:
        """`unasked`: parts that members send to each other before they are asked."""
        self.cores = cores
        self.random = random.Random(seed)
        self.encoding = {name: deque(core.to_encode()) for name, core in cores.items()}
        self.reducing: dict[str, list[int]] = {name: [] for name in cores}
        self.wire: dict[tuple[str, str, str], deque[Go | Part | Mean]] = {}
        self.late = set(self.random.sample(sorted(cores), min(late, len(cores) - 1)))
        self.early: list[tuple[str, str, Go | Part]] = []
        for name, core in cores.items():
            for other in cores.keys() - {name} if unasked else ():
                core.presume(other)
        self.breaks = breaks
        self.sent: Counter[tuple[str, str, str, int]] = Counter()
        self.got: dict[str, Counter[tuple[str, int]]] = {name: Counter() for name in cores}
        self.parts: dict[tuple[str, int], set[str]] = {}
        self.held: dict[str, int] = dict.fromkeys(cores, 0)
        self.most_held: dict[str, int] = dict.fromkeys(cores, 0)
        self.finished: dict[str, list[int]] = {name: [] for name in cores}
        for name in cores.keys() - self.late:
            self.after(name)

    def after(self, name: str) -> None:
        """What a shell does after each event."""
        core = self.cores[name]
        for to, go in core.gos():
            self.wire.setdefault((name, to, "go"), deque()).append(go)
        self.reducing[name] += core.ready(self.random.randint(1, 3))
        self.finished[name] += core.finished()

    def step(self) -> bool:
        """One random event; False when none is left."""
        events = [("start", name, "") for name in sorted(self.late)]
        events += [("encode", name, "") for name, pieces in self.encoding.items() if pieces and name not in self.late]
        events += [("reduce", name, "") for name, pieces in self.reducing.items() if pieces]
        events += [("deliver", a, f"{b} {kind}") for (a, b, kind), queue in self.wire.items() if queue]
        pairs = [(a, b) for a in self.cores if a not in self.late for b in self.cores if b != a]
        sendable = [(a, b) for a, b in pairs if len(self.wire.get((a, b, "piece"), ())) < 3]
        self.random.shuffle(sendable)
        for a, b in sendable:
            message = self.cores[a].message_for(b)
            if message is not None:
                self.wire.setdefault((a, b, "piece"), deque()).append(message)
                self.sent[(a, b, message.KIND, message.start)] += 1
                return True
        if not events:
            return False
        if self.breaks and self.random.random() < 0.05 and not self.late:
            self.breaks -= 1
            self.break_link(*self.random.sample(sorted(self.cores), 2))
            return True
        kind, name, rest = self.random.choice(events)
        if kind == "deliver":
            self.deliver(name, *rest.split())
        else:
            getattr(self, kind)(name)
        return True

    def start(self, name: str) -> None:
        self.late.remove(name)
        self.after(name)
        for sender, receiver, message in self.early:
            if receiver == name:
                self.take(sender, receiver, message)

    def encode(self, name: str) -> None:
        piece = self.encoding[name].popleft()
        self.cores[name].encoded(piece)
        self.note_part(name, name, piece)
        self.after(name)

    def reduce(self, name: str) -> None:
        pieces = self.reducing[name]
        piece = pieces.pop(self.random.randrange(len(pieces)))
        core = self.cores[name]
        names = set(core.routes.names(piece))
        assert self.parts[(name, piece)] == names
        self.held[name] -= core.grid.size(piece) * len(names - {name})
        core.reduced(piece)
        self.after(name)

    def deliver(self, a: str, b: str, lane: str) -> None:
        message = self.wire[(a, b, lane)].popleft()
        if b not in self.late:
            self.take(a, b, message)
        else:
            assert not isinstance(message, Mean)
            self.early.append((a, b, message))

    def take(self, a: str, b: str, message: Go | Part | Mean) -> None:
        core = self.cores[b]
        if isinstance(message, Go):
            core.on_go(a, message)
            return
        piece = core.expect(a, message)
        if piece is None:
            return
        if self.random.random() < 0.1:  # a repetition on another lane, while the first is still arriving
            assert core.expect(a, message) is None
        assert core.arrived(a, message) == piece
        assert core.arrived(a, message) is None
        self.got[b][(message.KIND + a, piece)] += 1
        if isinstance(message, Part):
            self.held[b] += core.grid.size(piece)
            self.most_held[b] = max(self.most_held[b], self.held[b])
            self.note_part(b, a, piece)
        self.after(b)

    def note_part(self, owner: str, contributor: str, piece: int) -> None:
        core = self.cores[owner]
        if core.rank == core.routes.of(piece).owner:
            self.parts.setdefault((owner, piece), set()).add(contributor)

    def break_link(self, a: str, b: str) -> None:
        for one, other in ((a, b), (b, a)):
            queue = self.wire.get((one, other, "piece"))
            if queue and not isinstance(queue[0], Go):
                self.cores[other].expect(one, queue[0])  # it was half received
            for lane in ("go", "piece"):
                self.wire.pop((one, other, lane), None)
        for one, other in ((a, b), (b, a)):
            self.cores[one].on_link_down(other)
        for one in (a, b):
            self.after(one)


def swarm_of(
    weights: list[int], count: int, size: int, seed: int, window: int = 50, unasked: int = 0, **options: int
) -> Swarm:
    cuts = sorted(random.Random(seed).choices(range(0, count + 1, size), k=len(weights) - 1))
    plan = plan_of(weights, count, 1, spans=[0, *cuts, count], piece=size)
    cores = {name: Butterfly(plan, name, count, window, unasked=unasked) for name in plan.draft.members}
    return Swarm(cores, seed, unasked=unasked, **options)


anything = {
    "weights": st.lists(st.integers(0, 3), min_size=1, max_size=6).filter(any),
    "count": st.integers(1, 300),
    "size": st.integers(1, 60),
    "seed": st.integers(0, 2**32),
}


def early(size: int, weights: list[int]) -> int:
    """Pieces that everybody has room for, of everybody else."""
    return max(1, 50 // (size * max(1, len(weights) - 1)))


def check_all_hold_everything(swarm: Swarm) -> None:
    for name, core in swarm.cores.items():
        assert core.complete, core.waiting_on()
        assert core.waiting_on() == ()
        assert core.values_held == core.grid.count
        assert sorted(swarm.finished[name]) == list(range(len(core.routes.stretches)))
        assert set(swarm.got[name].values()) <= {1}
        assert swarm.most_held[name] <= max(50, MIN_ROOM * core.grid.piece * (len(core.members) - 1))


@given(**anything, late=st.integers(0, 5), eager=st.booleans())
def test_any_schedule_brings_every_mean_to_every_member_once(
    weights: list[int], count: int, size: int, seed: int, late: int, eager: bool
) -> None:
    swarm = swarm_of(weights, count, size, seed, late=late, unasked=early(size, weights) if eager else 0)
    while swarm.step():
        pass
    check_all_hold_everything(swarm)
    assert set(swarm.sent.values()) <= {1}
    expected = sum(
        len(stretch) * (len(weights) - 1 + len(stretch.contributors) - (stretch.owner in stretch.contributors))
        for stretch in swarm.cores[peer(0)].routes.stretches
    )
    assert len(swarm.sent) == expected


@given(**anything, breaks=st.integers(1, 10), eager=st.booleans())
def test_broken_links_lose_nothing_and_count_nothing_twice(
    weights: list[int], count: int, size: int, seed: int, breaks: int, eager: bool
) -> None:
    breaks, unasked = breaks if len(weights) > 1 else 0, early(size, weights) if eager else 0
    swarm = swarm_of(weights, count, size, seed, breaks=breaks, unasked=unasked)
    while swarm.step():
        pass
    check_all_hold_everything(swarm)


def test_the_first_mean_leaves_before_the_last_part_has_arrived() -> None:
    swarm = swarm_of([1, 1, 1], 3000, 10, seed=1, window=100)
    parts_left, mean_seen = Counter[str](), False
    while swarm.step() and not mean_seen:
        parts_left = Counter(kind for _, _, kind, _ in swarm.sent)
        mean_seen = parts_left["mean"] > 0
    assert mean_seen
    assert parts_left["part"] < 3 * 2 * 100 / 2


def test_a_member_that_never_starts_holds_the_others_up_but_costs_no_memory() -> None:
    swarm = swarm_of([1, 1, 1], 3000, 10, seed=1, window=100, late=1)
    (absent,) = swarm.late
    swarm.late.clear()
    swarm.encoding.pop(absent)
    while swarm.step():
        pass
    for name in swarm.cores.keys() - {absent}:
        assert absent in swarm.cores[name].waiting_on()
        assert not any(to == absent for _, to, _, _ in swarm.sent)
        assert swarm.most_held[name] <= 100


def test_a_lone_member_needs_no_network() -> None:
    swarm = swarm_of([7], 100, 8, seed=0)
    while swarm.step():
        pass
    check_all_hold_everything(swarm)
    assert not swarm.sent
    assert not swarm.wire


def test_a_link_that_breaks_after_the_mean_was_complete_does_not_disturb() -> None:
    swarm = swarm_of([1, 1], 100, 8, seed=0)
    while swarm.step():
        pass
    swarm.break_link(peer(0), peer(1))
    before = sum(swarm.sent.values())
    while swarm.step():
        pass
    check_all_hold_everything(swarm)
    assert sum(swarm.sent.values()) == before  # the new Go says what is held


BALLOT = Ballot(round=3, attempt=0, rank=0, lineage=0)


def member(weights: list[int], me: int = 0, *, started: bool = True, unasked: int = 0) -> Butterfly:
    plan = plan_of(weights, 100 * len(weights), 4, piece=20)
    core = Butterfly(plan, peer(me), 100 * len(weights), 40, unasked=unasked)
    if started:
        list(core.gos())
    return core


def test_hostile_pieces_are_refused_with_the_reason() -> None:
    core = member([1, 1, 0])

    def refused(name: str, message: Part | Mean, match: str) -> None:
        with pytest.raises(BadMessage, match=match):
            core.expect(name, message)

    refused(peer(7), Part(ballot=BALLOT, start=0, stop=20), "no other member")
    refused(peer(0), Part(ballot=BALLOT, start=0, stop=20), "no other member")
    refused(peer(2), Part(ballot=BALLOT, start=0, stop=20), "does not contribute")
    refused(peer(1), Part(ballot=BALLOT, start=0, stop=40), "no piece of ours")
    refused(peer(1), Part(ballot=BALLOT, start=4, stop=24), "no piece of ours")
    refused(peer(1), Part(ballot=BALLOT, start=100, stop=120), "no piece of ours")
    refused(peer(1), Part(ballot=BALLOT, start=80, stop=100), "without being asked")
    refused(peer(1), Mean(ballot=BALLOT, start=0, stop=20), "no piece of its sender")
    refused(peer(1), Mean(ballot=BALLOT, start=200, stop=220), "no piece of its sender")
    assert core.expect(peer(1), Part(ballot=BALLOT, start=0, stop=20)) is not None
    assert core.arrived(peer(1), Part(ballot=BALLOT, start=20, stop=40)) is None


def test_nothing_is_taken_before_we_asked() -> None:
    core = member([1, 1], started=False)
    with pytest.raises(BadMessage, match="without being asked"):
        core.expect(peer(1), Part(ballot=BALLOT, start=0, stop=20))
    with pytest.raises(BadMessage, match="without being asked"):
        core.expect(peer(1), Mean(ballot=BALLOT, start=100, stop=120))


def test_a_go_for_more_than_there_is_is_refused() -> None:
    with pytest.raises(BadMessage, match="more pieces"):
        member([1, 1]).on_go(peer(1), Go(ballot=BALLOT, room=6, parts=b"", means=b""))
    with pytest.raises(BadMessage, match="do not exist"):
        member([1, 1]).on_go(peer(1), Go(ballot=BALLOT, room=0, parts=b"\x20", means=b""))
    with pytest.raises(BadMessage, match="do not exist"):
        member([1, 1]).on_go(peer(1), Go(ballot=BALLOT, room=0, parts=b"", means=b"\0\0"))
    with pytest.raises(BadMessage, match="no other member"):
        member([1, 1]).on_go(peer(2), Go(ballot=BALLOT, room=0, parts=b"", means=b""))


def test_a_repeated_go_repeats_nothing() -> None:
    core = member([1, 1])
    for piece in core.to_encode():
        core.encoded(piece)
    go = Go(ballot=BALLOT, room=2, parts=b"", means=b"")
    core.on_go(peer(1), go)
    assert [core.message_for(peer(1)) for _ in range(3)][1:] == [Part(ballot=BALLOT, start=120, stop=140), None]
    core.on_go(peer(1), go)
    assert core.message_for(peer(1)) is None


def test_before_a_go_there_are_so_many_parts_and_no_mean() -> None:
    core = member([1, 1, 1], unasked=2)
    for piece in core.to_encode():
        core.encoded(piece)
    core.presume(peer(1))
    first = [core.message_for(peer(1)) for _ in range(3)]
    assert first == [Part(ballot=BALLOT, start=100, stop=120), Part(ballot=BALLOT, start=120, stop=140), None]
    for name in (peer(1), peer(2)):
        part = Part(ballot=BALLOT, start=0, stop=20)
        assert core.expect(name, part) == core.arrived(name, part) == 0
    assert core.ready(1) == [0]
    core.reduced(0)
    assert core.message_for(peer(1)) is None  # of whom it is not known that it can hold it
    core.on_go(peer(1), Go(ballot=BALLOT, room=3, parts=b"", means=b""))
    then = [core.message_for(peer(1)) for _ in range(3)]
    assert then == [Part(ballot=BALLOT, start=140, stop=160), Mean(ballot=BALLOT, start=0, stop=20), None]


def test_what_went_before_a_go_over_a_link_that_broke_goes_again() -> None:
    core = member([1, 1], unasked=1)
    for piece in core.to_encode():
        core.encoded(piece)
    part = Part(ballot=BALLOT, start=100, stop=120)
    core.presume(peer(1))
    assert core.message_for(peer(1)) == part
    core.on_link_down(peer(1))
    assert core.message_for(peer(1)) is None
    core.on_go(peer(1), Go(ballot=BALLOT, room=1, parts=b"", means=b""))
    assert core.message_for(peer(1)) == part


def test_a_go_that_found_no_link_is_due_again() -> None:
    core = member([1, 1], started=False)
    assert [name for name, _ in core.gos()] == [peer(1)]
    assert list(core.gos()) == []
    core.go_failed(peer(1))
    assert [name for name, _ in core.gos()] == [peer(1)]


def test_link_events_of_strangers_are_ignored() -> None:
    core = member([1, 1])
    core.on_link_down(peer(9))
    assert list(core.gos()) == []


# --- further attempts ------------------------------------------------------------------------------------------------


def promises(swarm: Swarm, names: list[str]) -> dict[str, Promise]:
    cores = {name: swarm.cores[name] for name in names}
    return {
        name: Promise(
            ballot=BALLOT,
            ready=None,
            plan=core.plan,
            means=core.leading_means(),
            parts=core.leading_parts(),
            vote=None,
            voted=None,
        )
        for name, core in cores.items()
    }


@given(
    weights=st.lists(st.integers(0, 3), min_size=2, max_size=6).filter(lambda weights: sum(map(bool, weights)) > 1),
    count=st.integers(2, 200),
    size=st.integers(1, 30),
    seed=st.integers(0, 2**32),
    deaths=st.integers(1, 3),
)
def test_members_die_one_after_the_other_and_the_rest_finishes_what_was_begun(
    weights: list[int], count: int, size: int, seed: int, deaths: int
) -> None:
    swarm, chance = swarm_of(weights, count, size, seed), random.Random(seed)
    rules = Rules(FINGERPRINT, count, "int8", 1, quota=0)
    live = sorted(swarm.cores)
    for attempt in range(1, 1 + min(deaths, len(weights) - 1)):
        for _ in range(chance.randrange(60)):
            swarm.step()
        live.remove(chance.choice(live))
        plan = swarm.cores[live[0]].plan
        owners = chance.sample(live, chance.randint(1, len(live)))
        ballot = Ballot(round=3, attempt=attempt, rank=0, lineage=0)
        again = repaired(rules, Head(FINGERPRINT), ballot, plan, promises(swarm, live), owners)
        if again is None:
            with patch("p2p.protocol.repair.most_segments", lambda _seats: 1000):
                again = repaired(rules, Head(FINGERPRINT), ballot, plan, promises(swarm, live), owners)
            if again is not None:
                assert len(again.draft.segments) > most_segments(len(again.draft.seats))
                return
            assert not any(seat.tokens for seat in plan.draft.seats if seat.peer in live)
            return
        swarm = continued(swarm, again, live, seed)
    while swarm.step():
        pass
    for name, core in swarm.cores.items():
        assert core.complete, core.waiting_on()
        assert sorted(swarm.finished[name]) == list(range(len(core.routes.stretches)))
    plan = swarm.cores[live[0]].plan
    heavy = {seat.peer for seat in plan.draft.seats if seat.peer in live and seat.tokens}
    for stretch in swarm.cores[live[0]].routes.stretches:
        assert heavy <= {plan.draft.members[rank] for rank in stretch.contributors}


def continued(swarm: Swarm, plan: Plan, live: list[str], seed: int) -> Swarm:
    """The survivors, each with what it held; parts that it held count as come."""
    cores, parts = {}, {}
    for name in live:
        before = swarm.cores[name]
        carried = before.carried_to(plan)
        core = cores[name] = Butterfly(plan, name, before.grid.count, 50, carried)
        for contributor, piece in carried.parts:
            parts.setdefault((name, piece), set()).add(contributor)
        for piece in carried.means:
            assert core.routes.names(piece) == before.routes.names(piece)
    after = Swarm(cores, seed)
    after.parts = parts
    return after


def test_a_part_that_is_held_and_a_mean_that_is_known_are_not_sent_again() -> None:
    swarm = swarm_of([1, 1, 1], 90, 10, seed=3)
    while swarm.step():
        pass
    live = [peer(0), peer(1), peer(2)]
    plan = swarm.cores[peer(0)].plan
    again = adopted(plan.draft.with_digests(tuple(bytes([i]) * 32 for i in range(3))), BALLOT, live)
    after = continued(swarm, again, live, seed=3)
    while after.step():
        pass
    assert all(core.complete for core in after.cores.values())
    assert sum(after.sent.values()) == 0


def test_a_record_is_adopted_by_a_member_that_misses_all_of_it() -> None:
    swarm = swarm_of([1, 1, 1], 90, 10, seed=3)
    while swarm.step():
        pass
    plan = swarm.cores[peer(0)].plan
    again = adopted(plan.draft.with_digests((b"d" * 32,) * 3), BALLOT, [peer(0), peer(1)])
    swarm.cores[peer(2)] = Butterfly(plan, peer(2), 90, 50)
    after = continued(swarm, again, sorted(swarm.cores), seed=3)
    while after.step():
        pass
    assert after.cores[peer(2)].complete
    assert all(kind == "mean" and to == peer(2) for _, to, kind, _ in after.sent)
    assert {sender for sender, _, _, _ in after.sent} == {peer(0), peer(1)}, "the holders share the work"
