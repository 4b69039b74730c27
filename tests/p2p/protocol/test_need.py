"""Who fetches, from whom, who begins, and who waits no longer for donors that are gone."""

from __future__ import annotations

from dataclasses import dataclass

from p2p.protocol.chain import MemoryChain
from p2p.protocol.liveness import tag
from p2p.protocol.messages import Status
from p2p.protocol.need import STRANDED_SECONDS, Need
from p2p.protocol.round import RoundCore
from tests.sim.virtual_swarm import RULES, peer_name, sign, verify

A, B = peer_name(0), peer_name(1)


@dataclass
class Store:
    round: int | None = -1
    """None: chunks of several rounds."""
    empty: bool = False


class Scene:
    """A has just started, and B says something."""

    def __init__(self) -> None:
        self.now = 5.0
        self.store = Store()
        self.core = RoundCore(A, RULES, lambda digest: sign(A, digest), verify, lambda: None, self.now)
        chain = MemoryChain(RULES.fingerprint)
        self.need = Need(self.core, chain, lambda round: self.store.round == round, lambda: self.store.empty)

    def hear(self, **fields: object) -> None:
        """B's status; by default it holds the first parameters."""
        mine = self.core.board.statuses[A]
        status = mine.model_copy(update={"phase": "training", "state_root": b"s" * 32, "hears": (tag(A),)} | fields)
        self.core.on_link_up(B, self.now)
        self.core.on_message(B, Status.model_validate(status.model_dump()), self.now)

    def lose(self) -> None:
        """B says that it goes."""
        self.hear(phase="leaving", sequence=1 << 40)


def test_only_a_founder_or_who_meets_one_begins_a_run() -> None:
    scene = Scene()
    assert not scene.need.may_begin(False, scene.now)
    assert scene.need.may_begin(True, scene.now)
    scene.hear()
    assert scene.need.may_begin(False, scene.now)


def test_who_holds_nothing_takes_the_first_parameters_from_others() -> None:
    scene = Scene()
    scene.store = Store(round=None, empty=True)
    assert scene.need.donors(scene.now) == []
    scene.hear()
    assert scene.need.donors(scene.now) == [B]
    assert not scene.need.may_begin(True, scene.now)
    assert not scene.need.stranded(scene.now + 10 * STRANDED_SECONDS), "it has lost nothing"


def test_a_newer_state_is_fetched_from_its_holder_and_nothing_begins_before() -> None:
    scene = Scene()
    scene.hear(height=3, head=b"h" * 32, tokens_total=100)
    (source,) = scene.need.sources(scene.now)
    assert (source.peer, source.height, source.root) == (B, 3, b"s" * 32)
    assert scene.need.goes_on(scene.now)
    assert not scene.need.may_begin(True, scene.now)
    scene.lose()
    assert not scene.need.goes_on(scene.now), "nobody has it any more, and what we held is still there"
    assert scene.need.may_begin(True, scene.now)


def test_whose_state_is_half_replaced_waits_for_donors_and_not_for_ever() -> None:
    scene = Scene()
    scene.hear(height=3, head=b"h" * 32, tokens_total=100)
    scene.store.round = None
    assert not scene.need.stranded(scene.now)
    scene.lose()
    assert scene.need.goes_on(scene.now)
    assert not scene.need.stranded(scene.now)
    scene.now += STRANDED_SECONDS - 1
    assert not scene.need.stranded(scene.now)
    scene.now += 2
    assert scene.need.stranded(scene.now)
    scene.hear(height=3, head=b"h" * 32, tokens_total=100, sequence=1)
    assert not scene.need.stranded(scene.now), "one is back"
