"""Stories of rounds, word for word."""

from __future__ import annotations

import pytest

from swarm.events import (
    Adopted,
    Attempt,
    Behind,
    Committed,
    Dead,
    Evaluated,
    Event,
    Excluded,
    Left,
    PeerDown,
    PeerUp,
    Ready,
    Reducing,
    Repaired,
    Round,
    Started,
    Straggler,
    Superseded,
    Synced,
    Train,
    Unreachable,
    Voted,
)
from swarm.why.chapter import Log
from swarm.why.tell import tell


def peer(index: int) -> str:
    return f"12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2Peer{index:02}"


A, B, C, D = (peer(index) for index in range(4))
NAMES = {A: "anna", B: "bert", C: "carl", D: "dora"}
RECORD = "3fa9c2d18e77" + 52 * "0"
NOON = 1_795_559_000.0


def log(who: str, *entries: tuple[float, Event], clock: float = NOON) -> Log:
    """`entries`: seconds since the commit of round 6, which is the first of them."""
    known = [(clock - 60.0, Started(peer=who, port=1, bootstrap=())), (clock, applied(who, 6))]
    return Log(NAMES.get(who, who[-6:]), [*known, *((clock + seconds, event) for seconds, event in entries)])


def applied(who: str, round: int, attempt: int = 0, theta: str = "12ab34cd56ef" + 52 * "0") -> Round:
    return Round(
        round=round,
        node=NAMES.get(who, who[-6:]),
        peer=who,
        loss=2.5,
        tokens=20_480,
        inner_steps=10,
        train_seconds=3.0,
        reduce_seconds=1.0,
        round_seconds=4.0,
        bytes_sent=1000,
        bytes_received=1000,
        contributors=3,
        members=(A, B, C),
        record=RECORD,
        theta_digest=theta,
        momentum_digest="ee",
        codec="int8",
        attempt=attempt,
    )


def ready(tokens: int = 20_480) -> Ready:
    return Ready(round=7, tokens=tokens, samples=tokens // 128)


def reducing(seats: tuple[str, ...], attempt: int = 0, by: str = A, **more: object) -> Reducing:
    fields = {"members": len(seats), "seats": seats, "contributors": seats} | more
    return Reducing.model_validate({"round": 7, "attempt": attempt, "coordinator": by} | fields)


def voted(attempt: int = 0, record: str = RECORD) -> Voted:
    return Voted(round=7, attempt=attempt, record=record)


def committed(members: tuple[str, ...], attempt: int = 0, lost: tuple[str, ...] = ()) -> Committed:
    weights = tuple(20_480 - 512 * place for place in range(len(members)))
    signatures = len(members) - len(lost)
    return Committed(
        round=7, attempt=attempt, record=RECORD, members=members, weights=weights, lost=lost, signatures=signatures
    )


def quiet(who: str, late: float = 0.0) -> tuple[tuple[float, Event], ...]:
    """A round of three without trouble."""
    return (
        (0.5, Train(round=7, inner_step=3, loss=2.0)),
        (3.0 + late, ready()),
        (3.3, reducing((A, B, C))),
        (4.0, voted()),
        (4.04, committed((A, B, C))),
        (4.1, applied(who, 7)),
        (5.0, Evaluated(round=7, held_out_loss=2.0)),
        (9.0, reducing((A, B, C)).model_copy(update={"round": 8})),
    )


def test_a_round_without_trouble() -> None:
    assert tell([log(A, *quiet(A)), log(B, *quiet(B, 0.2)), log(C, *quiet(C))], 7) == [
        "Round 7, by the logs of anna, bert and carl. Seconds count from each node's own begin of the round.",
        "Trained and ready: anna and carl after 3.0 s, bert after 3.2 s.",
        "Attempt 0: anna planned for anna, bert and carl. They began to reduce: anna, bert and carl after 3.3 s.",
        "Voted for record 3fa9c2d18e77: anna, bert and carl after 4.0 s.",
        "Committed in attempt 0: record 3fa9c2d18e77, 3 signatures, the mean of 59,904 tokens: "
        "anna 20,480, bert 19,968, carl 19,456.",
        "Outer step done, theta 12ab34cd56ef: anna, bert and carl after 4.1 s.",
        "It took: training 3.00 to 3.20 s, waiting for the plan 0.10 to 0.30 s, reducing 0.70 s, agreeing 0.04 s, "
        "the outer step 0.06 s.",
    ]


def test_a_round_that_averaged_one_fragment_says_which() -> None:
    told = [(at, event) for at, event in quiet(A) if not isinstance(event, Committed)]
    part = committed((A, B, C)).model_copy(update={"fragment": 3, "fragments": 4})
    (line,) = [line for line in tell([log(A, *told, (4.04, part))], 7) if line.startswith("Committed")]
    assert "3 signatures, fragment 4 of 4, the mean of" in line


DEATH = "link lost (connection reset), redial failed (connection refused), and nobody hears it"


def test_a_member_is_killed_in_the_reduce_and_the_rest_repair_it() -> None:
    down = PeerDown(peer=C, reason="connection reset")
    gone, dead = Unreachable(peer=C, reason="connection refused"), Dead(round=7, peer=C, reason=DEATH)
    again = reducing((A, B), 1, contributors=(A, B, C), values=1000, kept=660)
    end = ((4.7, voted(1)), (4.8, committed((A, B, C), 1, (C,))))
    anna = log(
        A,
        (3.0, ready()),
        (3.3, reducing((A, B, C))),
        (3.9, down),
        (3.91, gone),
        (4.0, dead),
        (4.0, Attempt(round=7, attempt=1, reason=f"lost {C}: {DEATH}")),
        (4.1, Repaired(round=7, attempt=1, lost=(C,), segments=5, values=1000, kept=660)),
        (4.1, again),
        *end,
        (4.9, applied(A, 7, 1)),
    )
    bert = log(
        B,
        (3.1, ready()),
        (3.3, reducing((A, B, C))),
        (3.9, down),
        (3.9, gone),
        (4.0, Superseded(round=7, attempt=1, peer=A)),
        (4.1, dead),
        (4.2, again),
        *end,
        (5.9, applied(B, 7, 1)),
    )
    carl = log(C, (3.2, ready()), (3.3, reducing((A, B, C))))
    assert tell([anna, bert, carl], 7) == [
        "Round 7, by the logs of anna, bert and carl. Seconds count from each node's own begin of the round.",
        "Trained and ready: anna after 3.0 s, bert after 3.1 s, carl after 3.2 s.",
        "Attempt 0: anna planned for anna, bert and carl. They began to reduce: anna, bert and carl after 3.3 s.",
        "anna and bert after 3.9 s: peer carl is down: connection reset.",
        "anna and bert after 3.9 s: peer carl cannot be reached: connection refused.",
        f"anna after 4.0 s, bert after 4.1 s: peer carl counts as dead: {DEATH}.",
        f"Attempt 1: anna opened it after 4.0 s: lost carl: {DEATH}.",
        "bert after 4.0 s: stops its reduce, for anna opens attempt 1.",
        "anna after 4.1 s: repairs the last one without carl, 66 % of the mean is kept.",
        "Attempt 1: anna planned for anna and bert, the mean of anna, bert and carl; 66 % of the mean was there "
        "already. They began to reduce: anna after 4.1 s, bert after 4.2 s.",
        "Voted for record 3fa9c2d18e77: anna and bert after 4.7 s.",
        "Committed in attempt 1: record 3fa9c2d18e77, 2 signatures, the mean of 59,904 tokens: "
        "anna 20,480, bert 19,968, carl 19,456; carl did not live to see it.",
        "Outer step done, theta 12ab34cd56ef: anna after 4.9 s, bert after 5.9 s.",
        "It took: training 3.00 to 3.20 s, waiting for the plan 0.10 to 0.30 s, earlier attempts 0.80 to 0.90 s, "
        "reducing 0.50 to 0.60 s, agreeing 0.10 s, the outer step 0.10 to 1.10 s (bert).",
        "The log of carl ends after 3.3 s: killed, or still at it.",
    ]


def test_a_coordinator_dies_after_the_vote_and_its_result_is_adopted() -> None:
    bert = log(
        B,
        (3.0, ready()),
        (3.3, reducing((A, B, C))),
        (4.0, voted()),
        (10.1, Dead(round=7, peer=A, reason="silent for 6.1 s, and nobody hears it")),
        (10.1, Attempt(round=7, attempt=1, reason=f"lost its coordinator {A}: silent for 6.1 s, and nobody hears it")),
        (10.2, Adopted(round=7, attempt=1, holders=(B,), missing=(C,))),
        (10.2, reducing((B, C), 1, B)),
        (10.3, voted(1)),
        (10.4, committed((A, B, C), 0, (A,))),
        (10.5, applied(B, 7)),
    )
    assert tell([bert], 7) == [
        "Round 7, by the log of bert. Seconds count from each node's own begin of the round.",
        "Trained and ready: bert after 3.0 s.",
        "Attempt 0: Peer00 planned for Peer00, bert and Peer02. They began to reduce: bert after 3.3 s.",
        "Voted for record 3fa9c2d18e77: bert after 4.0 s.",
        "bert after 10.1 s: peer Peer00 counts as dead: silent for 6.1 s, and nobody hears it.",
        "Attempt 1: bert opened it after 10.1 s: lost its coordinator Peer00: silent for 6.1 s, and nobody hears it.",
        "bert after 10.2 s: adopts what bert voted for; the mean is missing at Peer02.",
        "Attempt 1: bert planned for bert and Peer02. They began to reduce: bert after 10.2 s.",
        "Voted for record 3fa9c2d18e77: bert after 10.3 s.",
        "Committed in attempt 0: record 3fa9c2d18e77, 2 signatures, the mean of 59,904 tokens: "
        "Peer00 20,480, bert 19,968, Peer02 19,456; Peer00 did not live to see it.",
        "Outer step done, theta 12ab34cd56ef: bert after 10.5 s.",
        "It took: training 3.00 s, waiting for the plan 0.30 s, earlier attempts 6.90 s, reducing 0.10 s, "
        "agreeing 0.10 s, the outer step 0.10 s.",
    ]


def test_a_straggler_falls_behind_and_comes_back() -> None:
    anna = log(
        A,
        (3.0, ready()),
        (33.1, Straggler(round=7, peer=C, reason="its training stands still")),
        (33.1, reducing((A, B))),
        (33.6, voted()),
        (33.7, committed((A, B))),
        (33.8, applied(A, 7)),
    )
    carl = log(
        C,
        (4.0, Train(round=7, inner_step=12, loss=2.0)),
        (33.7, Behind(reason="round 7 was committed without us")),
        (36.0, Synced(round=7, bytes=8_000_000, seconds=2.2, donors=2)),
        (36.1, Ready(round=8, tokens=0, samples=0)),
    )
    assert tell([anna, carl], 7) == [
        "Round 7, by the logs of anna and carl. Seconds count from each node's own begin of the round.",
        "Trained and ready: anna after 3.0 s.",
        "carl was never ready: inner step 12 after 4.0 s.",
        "anna after 33.1 s: round 7 goes on without carl: its training stands still.",
        "Attempt 0: anna planned for anna and Peer01. They began to reduce: anna after 33.1 s.",
        "Voted for record 3fa9c2d18e77: anna after 33.6 s.",
        "Committed in attempt 0: record 3fa9c2d18e77, 2 signatures, the mean of 40,448 tokens: "
        "anna 20,480, Peer01 19,968.",
        "Outer step done, theta 12ab34cd56ef: anna after 33.8 s.",
        "It took: training 3.00 s, waiting for the plan 30.10 s, reducing 0.50 s, agreeing 0.10 s, "
        "the outer step 0.10 s.",
        "carl after 33.7 s: behind the swarm: round 7 was committed without us.",
        "carl after 36.0 s: state of round 7: 8.00 MB from 2 donors in 2.2 s.",
    ]


def test_clocks_that_differ_are_named_and_change_nothing_else() -> None:
    story = tell([log(A, *quiet(A)), log(B, *quiet(B)), log(C, *quiet(C), clock=NOON + 300)], 7)
    assert story[1] == "Clocks differ: carl's is 300 s ahead of anna's. No time here is taken from two of them."
    assert story[:1] + story[2:] == tell([log(who, *quiet(who)) for who in (A, B, C)], 7)


def test_a_commit_that_one_learns_late_is_no_matter_of_clocks() -> None:
    late = log(B, *((s + 20 * (s > 4.05), event) for s, event in quiet(B)))
    assert not any("Clocks" in line for line in tell([log(A, *quiet(A)), late], 7))


def test_a_newcomer_takes_part_without_weight() -> None:
    dora = Log(
        "dora",
        [
            (5.0, Started(peer=D, port=1, bootstrap=())),
            (7.0, Synced(round=6, bytes=8_000_000, seconds=1.0, donors=2)),
            (7.1, Ready(round=7, tokens=0, samples=0)),
            (8.0, reducing((A, B, D), contributors=(A, B))),
        ],
    )
    story = tell([dora], 7)
    assert "Ready to receive, with no part in the mean: dora after 0.1 s." in story
    assert story[2].startswith("Attempt 0: Peer00 planned for Peer00, Peer01 and dora, the mean of Peer00 and Peer01.")
    assert story[-2:] == [
        "No log here knows of its commit.",
        "The log of dora ends after 1.0 s: killed, or still at it.",
    ]


def test_the_formation_round() -> None:
    formed = Committed(round=0, attempt=0, record=RECORD, members=(A, B), weights=(0, 0), signatures=2)
    anna = Log("anna", [(0.0, Synced(round=-1, bytes=0, seconds=0, donors=0)), (2.0, formed), (2.1, applied(A, 0))])
    assert any("nobody trained, 2" not in line and "form the next view" in line for line in tell([anna], 0))


def test_different_results_and_different_states_cannot_be_overlooked() -> None:
    other = "77" * 32
    anna = log(A, (3.0, reducing((A, B))), (4.0, voted()), (4.2, committed((A, B))), (4.3, applied(A, 7)))
    bert = log(B, (3.0, reducing((A, B))), (4.0, voted(0, other)), (4.3, applied(B, 7, theta=other)))
    story = tell([anna, bert], 7)
    assert "The results of attempt 0 differ." in story
    assert "THEIR PARAMETERS DIFFER." in story


def test_who_leaves_is_said_to_and_a_link_that_comes_back_too() -> None:
    bert = log(
        B,
        (1.0, PeerDown(peer=A, reason="timed out")),
        (1.2, PeerUp(peer=A)),
        (1.3, PeerUp(peer=C)),
        (2.0, Excluded(round=7, peer=A, reason="gives no promise")),
        (2.5, Left(round=6)),
        (9.0, Started(peer=B, port=7400, bootstrap=("/ip4/192.0.2.7/tcp/7401/p2p/12D3KooWx",))),
    )
    assert tell([bert], 7)[1:] == [
        "bert after 1.0 s: peer Peer00 is down: timed out.",
        "bert after 1.2 s: peer Peer00 is up.",
        "bert after 2.0 s: round 7 leaves out Peer00: gives no promise.",
        "bert after 2.5 s: left after round 6.",
        "bert after 9.0 s: starts again.",
        "No log here knows of its commit.",
    ]


def test_many_nodes_are_told_in_short() -> None:
    everybody = tuple(peer(index) for index in range(20))
    logs = [
        log(
            who,
            (3.0 + 0.1 * index, ready()),
            (6.0, reducing(everybody)),
            (7.0, voted()),
            (7.1, committed(everybody)),
            (7.2, applied(who, 7)),
        )
        for index, who in enumerate(everybody)
    ]
    story = tell(logs, 7)
    assert story[0].startswith("Round 7, by the logs of 20 nodes.")
    assert story[1] == (
        "Trained and ready: 20 nodes, anna first after 3.0 s, Peer10 half way after 4.0 s, Peer19 last after 4.9 s."
    )
    assert max(map(len, story)) < 250


@pytest.mark.parametrize("round", [5, 6, 8])
def test_rounds_that_nobody_tells_of_have_no_story(round: int) -> None:
    end = quiet(A)[:-1]
    assert tell([log(A, *end), log(B, *end)], round) == []
    assert tell([], round) == []
