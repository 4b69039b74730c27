"""Fetching from real donors over links in memory: deaths, lies, commits on the way, and always the members' bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2p.protocol.holdings import EMPTY, Source
from p2p.protocol.message import Message
from p2p.protocol.messages import GetRecords, Records
from p2p.protocol.model import BadMessage
from p2p.protocol.serving import DeskLimits
from p2p.protocol.transfer_messages import Chunk, GetChunk, GetMean, Manifest, MeanSlice, NotAvailable, Withdraw
from p2p.transfer.fetch import FetchResult, sizes_of
from tests.p2p.protocol.records import history, peer
from tests.p2p.transfer.network import CHUNKS, COUNT, Network, Node, Swarm

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
async def swarm(pool: ThreadPoolExecutor) -> AsyncIterator[Swarm]:
    """Three members, four rounds old."""
    swarm = Swarm(Network(), pool, 3)
    await swarm.start(4)
    yield swarm
    await swarm.close()


def newcomer(swarm: Swarm, index: int = 7) -> Node:
    return Node(swarm.network, index, swarm.pool, round=EMPTY)


def equal(node: Node, swarm: Swarm, result: FetchResult) -> None:
    """The node holds what the live members hold, and its result says so."""
    live = next(member for member in swarm.members if member.peer not in swarm.network.dead)
    assert node.state.round == live.state.round == result.round
    assert node.state.theta_P.tobytes() == live.state.theta_P.tobytes()
    assert node.state.momentum_P.tobytes() == live.state.momentum_P.tobytes()
    assert node.chain.tip == live.chain.tip
    assert result.root == swarm.root
    assert result.head == live.chain.tip.head


class After:
    """Does something when so many chunks have been delivered."""

    def __init__(self, swarm: Swarm, chunks: int, action: object, sender: str | None = None) -> None:
        self.left, self.action, self.sender, self.done = chunks, action, sender, False
        self.tasks: list[asyncio.Task[None]] = []
        swarm.network.watch = self

    def __call__(self, sender: str, to: str, message: Message) -> None:
        if isinstance(message, Chunk) and self.sender in (None, sender):
            self.left -= 1
            if self.left <= 0 and not self.done:
                self.done = True
                outcome = self.action()  # type: ignore[operator]
                if asyncio.iscoroutine(outcome):
                    self.tasks.append(asyncio.create_task(outcome))


async def test_a_newcomer_takes_state_and_records_from_all_donors(swarm: Swarm) -> None:
    node = newcomer(swarm)
    result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert result.donors.keys() == {member.peer for member in swarm.members}
    assert (result.chunks, result.replayed, result.dropped) == (CHUNKS, 0, [])
    assert result.bytes == 8 * COUNT + 32 * CHUNKS
    assert [node.chain.record(r) for r in range(4)] == [swarm.members[0].chain.record(r) for r in range(4)]


async def test_genesis_can_be_fetched(pool: ThreadPoolExecutor) -> None:
    swarm = Swarm(Network(), pool, 2)
    await swarm.start(0)
    node = newcomer(swarm)
    equal(node, swarm, await node.transfer.fetch(swarm.sources))
    await swarm.close()


async def test_nothing_is_fetched_by_who_has_it(swarm: Swarm) -> None:
    node = newcomer(swarm)
    await node.transfer.fetch(swarm.sources)
    again = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, again)
    assert (again.chunks, again.replayed) == (0, 0)
    assert again.bytes == 32 * CHUNKS


@pytest.mark.parametrize("percent", [10, 50, 90])
async def test_a_donor_may_die(swarm: Swarm, percent: int) -> None:
    node = newcomer(swarm)
    victim = swarm.members[1].peer
    After(swarm, CHUNKS * percent // 100, lambda: swarm.network.kill(victim))
    result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert result.bytes <= 1.2 * (8 * COUNT + 32 * CHUNKS)
    for who, why in result.dropped:
        assert (who, why) == (victim, "link lost: reset by peer")


async def test_all_donors_but_one_may_die(swarm: Swarm) -> None:
    node = newcomer(swarm)
    After(swarm, 5, lambda: [swarm.network.kill(member.peer) for member in swarm.members[1:]])
    equal(node, swarm, await node.transfer.fetch(swarm.sources))


def flip(message: Message, payload: bytearray) -> Message:
    if isinstance(message, Chunk | MeanSlice):
        payload[len(payload) // 3] ^= 1
    return message


async def test_a_donor_that_corrupts_chunks_is_named(swarm: Swarm) -> None:
    liar = swarm.members[0].peer
    swarm.network.tamper[liar] = flip
    node = newcomer(swarm)
    result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert {who for who, _ in result.dropped} == {liar}
    assert "false bytes for chunk" in result.dropped[0][1]
    dropped = [(fields["peer"], fields["reason"]) for event, fields in node.heard if event == "donor_dropped"]
    assert dropped == result.dropped


async def test_a_false_manifest_is_named(swarm: Swarm) -> None:
    def lie(message: Message, payload: bytearray) -> Message:
        if isinstance(message, Manifest):
            payload[0] ^= 1
        return message

    liars = {member.peer for member in swarm.members[:2]}
    swarm.network.tamper = dict.fromkeys(liars, lie)
    node = newcomer(swarm)
    result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    for who, why in result.dropped:
        assert who in liars
        assert "another root" in why


@pytest.mark.parametrize("label", [0, 4, 5, 1000])
async def test_a_false_label_is_named(swarm: Swarm, label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that claims to be of another round than it is: too new, too old, or of one that others can refute."""
    monkeypatch.setattr("p2p.protocol.transfer.UNHEARD_SECONDS", 1.0)
    liar = swarm.members[0].peer

    def lie(message: Message, payload: bytearray) -> Message:
        return message.model_copy(update={"round": label}) if isinstance(message, Chunk) else message

    swarm.network.tamper[liar] = lie
    node = newcomer(swarm)
    watch = After(swarm, CHUNKS, swarm.commit)
    result = await node.transfer.fetch(swarm.sources)
    await asyncio.gather(*watch.tasks)
    assert {who for who, _ in result.dropped} <= {liar}
    if result.round == 3:
        result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)


async def test_wrong_sizes_and_indices_cost_the_link(swarm: Swarm) -> None:
    def short(message: Message, payload: bytearray) -> Message:
        if isinstance(message, Chunk):
            del payload[-8:]
        return message

    def other(message: Message, payload: bytearray) -> Message:
        if isinstance(message, Chunk):
            return message.model_copy(update={"index": (message.index + 1) % CHUNKS})
        return message

    swarm.network.tamper = {swarm.members[0].peer: short, swarm.members[1].peer: other}
    node = newcomer(swarm)
    equal(node, swarm, await node.transfer.fetch(swarm.sources))
    assert {whom for _, whom, _ in swarm.network.refused} == swarm.network.tamper.keys()
    assert all("not what was asked for" in why for _, _, why in swarm.network.refused)


async def test_answers_that_nobody_asked_for_are_dropped(swarm: Swarm) -> None:
    node = newcomer(swarm)
    unasked = Chunk(request=5, round=3, index=0)
    assert node.transfer.open_payload(peer(0), unasked, 8192) is None
    node.transfer.handle(peer(0), NotAvailable(request=5, reason="?"))
    node.transfer.handle(peer(0), Records(start=0, records=tuple(history(1))))
    fetch = asyncio.create_task(node.transfer.fetch(swarm.sources))
    await asyncio.sleep(0)
    assert node.transfer.open_payload(peer(0), unasked, 8192) is None
    node.transfer.handle(peer(0), NotAvailable(request=5, reason="?"))
    node.transfer.handle(peer(0), Records(start=0, records=tuple(history(1))))
    equal(node, swarm, await fetch)


async def test_a_commit_on_the_way_is_replayed(swarm: Swarm) -> None:
    node = newcomer(swarm)
    watch = After(swarm, CHUNKS // 2, swarm.commit)
    result = await node.transfer.fetch(swarm.sources)
    await asyncio.gather(*watch.tasks)
    assert result.round == 4
    equal(node, swarm, result)
    assert result.replayed > 0
    assert result.dropped == []
    assert result.bytes < 1.2 * 8 * COUNT


async def test_two_commits_on_the_way(swarm: Swarm) -> None:
    async def twice() -> None:
        await swarm.commit()
        await swarm.commit()

    node = newcomer(swarm)
    watch = After(swarm, CHUNKS // 2, twice)
    result = await node.transfer.fetch(swarm.sources)
    await asyncio.gather(*watch.tasks)
    if result.round < 5:
        result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert result.dropped == []


@pytest.mark.parametrize("codec", ["fp32", "int8", "int4", "int2"])
async def test_a_member_that_missed_a_round_takes_means_only(pool: ThreadPoolExecutor, codec: str) -> None:
    swarm = Swarm(Network(), pool, 3, codec=codec)
    await swarm.start(2)
    late = swarm.members.pop()
    await swarm.commit()
    result = await late.transfer.fetch(swarm.sources)
    equal(late, swarm, result)
    assert (result.chunks, result.replayed) == (0, CHUNKS)
    await swarm.close()


async def test_missed_rounds_with_and_without_weight(swarm: Swarm) -> None:
    late = swarm.members.pop()
    for weight in (True, False, True, False):
        await swarm.commit(weight)
    result = await late.transfer.fetch(swarm.sources)
    equal(late, swarm, result)
    assert (result.chunks, result.replayed) == (0, 4 * CHUNKS)


async def test_a_mean_we_were_sent_is_not_fetched(swarm: Swarm) -> None:
    late = swarm.members.pop()
    await swarm.commit()
    late.state.keep(swarm.members[0].state.means[4], 4)
    result = await late.transfer.fetch(swarm.sources)
    equal(late, swarm, result)
    assert (result.chunks, result.replayed) == (0, CHUNKS)
    assert result.bytes == 2 * 32 * CHUNKS, "the manifests"


async def test_a_mean_of_ours_that_is_wrong_does_no_harm(swarm: Swarm) -> None:
    late = swarm.members.pop()
    await swarm.commit()
    late.state.keep(swarm.draw_mean(77), 4)
    result = await late.transfer.fetch(swarm.sources)
    equal(late, swarm, result)
    assert result.dropped == []


async def test_means_that_nobody_keeps_cost_the_chunks(pool: ThreadPoolExecutor) -> None:
    swarm = Swarm(Network(), pool, 3, keep_means=1)
    await swarm.start(2)
    late = swarm.members.pop()
    await swarm.commit()
    await swarm.commit()
    result = await late.transfer.fetch(swarm.sources)
    equal(late, swarm, result)
    assert result.chunks == CHUNKS
    await swarm.close()


@pytest.mark.parametrize("spoil", [flip, lambda m, p: (p.__setitem__(slice(0, 4), b"\xff" * 4), m)[1]])
async def test_a_donor_that_corrupts_means_is_named(swarm: Swarm, spoil: object) -> None:
    late = swarm.members.pop()
    await swarm.commit()
    liar = swarm.members[0].peer

    def lie(message: Message, payload: bytearray) -> Message:
        return spoil(message, payload) if isinstance(message, MeanSlice) else message  # type: ignore[operator]

    swarm.network.tamper[liar] = lie
    result = await late.transfer.fetch(swarm.sources)
    equal(late, swarm, result)
    assert {who for who, _ in result.dropped} == {liar}
    assert "false mean of round 4" in result.dropped[0][1]
    assert result.chunks == 0


async def test_a_member_whose_state_differs_repairs_the_chunks_that_differ(swarm: Swarm) -> None:
    sick = swarm.members.pop()
    for index in (2, 9):
        round, data = sick.state.read(index)
        data[100] ^= 4
        sick.state.write(index, round, data)
    result = await sick.transfer.fetch(swarm.sources)
    equal(sick, swarm, result)
    assert (result.chunks, result.replayed) == (2, 0)


async def test_a_cancelled_fetch_goes_on_where_it_was(swarm: Swarm) -> None:
    node = newcomer(swarm)
    half = asyncio.Event()
    After(swarm, CHUNKS // 2, half.set)
    task = asyncio.create_task(node.transfer.fetch(swarm.sources))
    await half.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = sum(node.state.version(index) != EMPTY for index in range(CHUNKS))
    assert kept > 0
    result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert result.chunks == CHUNKS - kept


async def test_a_stuck_donor_is_asked_for_nothing_that_others_could_give(swarm: Swarm) -> None:
    """It never answers; when the others are done they are asked for its share, without waiting for its silence."""
    mute = swarm.members[0].peer

    def silence(message: Message, payload: bytearray) -> Message | None:
        return None if isinstance(message, Chunk) else message

    withdrawn: set[str] = set()

    def watch(_sender: str, to: str, message: Message) -> None:
        if isinstance(message, Withdraw):
            withdrawn.add(to)

    swarm.network.tamper[mute] = silence
    swarm.network.watch = watch
    node = newcomer(swarm)
    result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert mute not in result.donors or result.donors[mute] == 32 * CHUNKS
    assert mute in withdrawn, "it is told that nobody waits any more"


async def test_those_on_another_lineage_are_not_asked(swarm: Swarm) -> None:
    other = Swarm(swarm.network, swarm.pool, 0)
    stranger = Node(swarm.network, 5, swarm.pool, round=-1)
    other.members = [stranger]
    await other.start(0)
    for _ in range(4):
        await other.commit(tokens=5)
    node = newcomer(swarm)
    result = await node.transfer.fetch(lambda: [*swarm.sources(), *other.sources()])
    equal(node, swarm, result)
    assert stranger.peer not in result.donors
    await other.close()


async def test_a_member_of_the_lighter_lineage_changes_over(swarm: Swarm) -> None:
    """Records after the fork are replaced, the state is repaired, and nothing of the old history is served."""
    lone = swarm.members.pop()
    alone = Swarm(swarm.network, swarm.pool, 0)
    alone.members, alone.root = [lone], swarm.root
    await alone.commit(tokens=3)
    await alone.commit(tokens=3)
    await swarm.commit()
    result = await lone.transfer.fetch(swarm.sources)
    equal(lone, swarm, result)
    assert lone.state.manifests.keys() == {4}
    (told,) = [fields for event, fields in lone.heard if event == "history_replaced"]
    assert (told["after"], told["records"]) == (3, 2)
    assert told["peer"] in {member.peer for member in swarm.members}


async def test_who_is_ahead_is_asked_for_state_when_it_has_shown_that_it_is_of_our_history(swarm: Swarm) -> None:
    stranger = Node(swarm.network, 5, swarm.pool, round=-1)
    sources = [Source(stranger.peer, 4, bytes(32), bytes(32)), *swarm.sources()]
    asked: list[str] = []
    swarm.network.watch = lambda sender, to, message: asked.append(to)
    node = newcomer(swarm)
    result = await node.transfer.fetch(lambda: sources)
    equal(node, swarm, result)
    assert result.dropped == []
    assert stranger.peer not in asked


async def test_a_history_that_does_not_lead_to_its_head_is_named(swarm: Swarm) -> None:
    liar = Node(swarm.network, 5, swarm.pool, round=-1)
    for one in history(4, tokens=9):
        liar.chain.append(one)
    claims = [Source(liar.peer, 3, swarm.members[0].chain.tip.head, swarm.root), *swarm.sources()]
    node = newcomer(swarm)
    result = await node.transfer.fetch(lambda: claims)
    equal(node, swarm, result)
    assert (liar.peer, "sent a history that does not lead to the head it reports") in result.dropped


async def test_forged_signatures_are_named(swarm: Swarm) -> None:
    liar = Node(swarm.network, 5, swarm.pool, round=-1)
    for one in swarm.members[0].chain.records(0, 64):
        ((rank, signature), *rest) = one.signatures
        forged = signature[:-1] + bytes([signature[-1] ^ 1])
        liar.chain.append(one.model_copy(update={"signatures": ((rank, forged), *rest)}))
    claims = [Source(liar.peer, 3, swarm.members[0].chain.tip.head, swarm.root), *swarm.sources()]
    node = newcomer(swarm)
    result = await node.transfer.fetch(lambda: claims)
    equal(node, swarm, result)
    assert result.dropped[0][0] == liar.peer
    assert "forged signature" in result.dropped[0][1]


async def test_a_donor_without_records_is_passed_over(swarm: Swarm) -> None:
    empty = Node(swarm.network, 5, swarm.pool, round=-1)
    tip = swarm.members[0].chain.tip
    node = newcomer(swarm)
    result = await node.transfer.fetch(
        lambda: [
            Source(empty.peer, 3, tip.head, swarm.root),
            Source(peer(6), 3, tip.head, swarm.root),
            *swarm.sources(),
        ]
    )
    equal(node, swarm, result)
    assert (empty.peer, "no records: it has no record of round 0") in result.dropped


async def test_long_histories_come_in_several_answers(pool: ThreadPoolExecutor) -> None:
    swarm = Swarm(Network(), pool, 2, keep_means=1)
    await swarm.start(0)
    for _ in range(150):
        await swarm.commit(weight=False)
    node = newcomer(swarm)
    equal(node, swarm, await node.transfer.fetch(swarm.sources))
    await swarm.close()


async def test_a_fetch_waits_for_its_first_source(swarm: Swarm) -> None:
    node = newcomer(swarm)
    looked = asyncio.Event()
    present: list[Source] = []

    def sources() -> list[Source]:
        looked.set()
        return present

    fetch = asyncio.create_task(node.transfer.fetch(sources))
    await looked.wait()
    present += swarm.sources()
    equal(node, swarm, await fetch)


async def test_a_newcomer_gives_nothing_before_it_is_whole(swarm: Swarm) -> None:
    node = newcomer(swarm)
    other = newcomer(swarm, 8)
    answers: list[Message] = []

    def watch(sender: str, to: str, message: Message) -> None:
        if to == node.peer and isinstance(message, Chunk) and not answers:
            swarm.network.carry(other.peer, node.peer, GetChunk(request=1, index=message.index), None)
        if sender == node.peer and to == other.peer:
            answers.append(message)

    swarm.network.watch = watch
    equal(node, swarm, await node.transfer.fetch(swarm.sources))
    assert answers
    assert isinstance(answers[0], NotAvailable)
    assert answers[0].reason == "its own state is not whole"


async def test_busy_donors_are_asked_again_later(pool: ThreadPoolExecutor) -> None:
    swarm = Swarm(Network(), pool, 2, limits=DeskLimits(queued_per_peer=2, answers_per_peer=1))
    await swarm.start(2)
    node = newcomer(swarm)
    equal(node, swarm, await node.transfer.fetch(swarm.sources))
    await swarm.close()


async def test_eight_newcomers_at_once(swarm: Swarm) -> None:
    nodes = [newcomer(swarm, 10 + index) for index in range(8)]
    results = await asyncio.gather(*(node.transfer.fetch(swarm.sources) for node in nodes))
    for node, result in zip(nodes, results, strict=True):
        equal(node, swarm, result)


async def test_sizes_are_those_of_the_wire(swarm: Swarm) -> None:
    sizes = sizes_of(swarm.members[0].state)
    assert (sizes.chunks, sizes.chunk_bytes, sizes.mean_bytes) == (CHUNKS, 8192, 1028)
    assert sizes.replay_limit == 7
    assert GetMean(request=0, round=0, start=0, stop=1024).KIND == "get-mean"


async def test_a_donor_without_a_link_is_passed_over(swarm: Swarm) -> None:
    """It is reported by others, but we cannot reach it."""
    tip = swarm.members[0].chain.tip
    node = newcomer(swarm)
    result = await node.transfer.fetch(lambda: [*swarm.sources(), Source(peer(6), 3, tip.head, swarm.root)])
    equal(node, swarm, result)
    assert (peer(6), "no link") in result.dropped


async def test_the_link_to_who_gives_records_may_break(swarm: Swarm) -> None:
    first = swarm.sources()[0].peer

    def watch(sender: str, to: str, message: Message) -> None:
        if isinstance(message, GetRecords) and to == first:
            swarm.network.kill(first)

    swarm.network.watch = watch
    node = newcomer(swarm)
    equal(node, swarm, await node.transfer.fetch(swarm.sources))


async def test_an_earlier_state_of_the_same_history_is_not_gone_back_to(swarm: Swarm) -> None:
    """The one source that is ahead is heard first; then the two that lag are heard, too, and outvote it."""
    lagging = [Node(swarm.network, index, swarm.pool, round=-1) for index in (5, 6)]
    old = Swarm(swarm.network, swarm.pool, 0)
    old.members = lagging
    await old.start(4)
    assert old.root == swarm.root
    await swarm.commit()
    ahead = swarm.sources()[:1]
    present = list(ahead)
    After(swarm, 3, lambda: present.extend(old.sources()))
    node = newcomer(swarm)
    result = await node.transfer.fetch(lambda: present)
    equal(node, swarm, result)
    assert result.round == 4
    assert len(present) == 3


async def test_a_store_that_fails_ends_the_fetch(swarm: Swarm) -> None:
    node = newcomer(swarm)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    node.state.write = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(OSError, match="disk full"):
        await node.transfer.fetch(swarm.sources)
    del node.state.write
    equal(node, swarm, await node.transfer.fetch(swarm.sources))


async def test_two_answers_to_one_question_cost_the_link(swarm: Swarm) -> None:
    node = newcomer(swarm)
    caught: list[str] = []

    def watch(sender: str, to: str, message: Message) -> None:
        if isinstance(message, GetChunk) and not caught:
            answer = Chunk(request=message.request, round=3, index=message.index)
            size = 8192 if message.index < CHUNKS - 1 else 4000
            assert node.transfer.open_payload(to, answer, size) is not None
            with pytest.raises(BadMessage, match="two answers"):
                node.transfer.open_payload(to, answer, size)
            caught.append(to)
            swarm.network.kill(to)

    swarm.network.watch = watch
    equal(node, swarm, await node.transfer.fetch(swarm.sources))
    assert caught
