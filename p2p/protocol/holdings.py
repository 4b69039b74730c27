"""What a member that fetches state holds, chunk by chunk, and what each chunk still needs to reach the target.

A chunk's digest is compared with the manifest of the round that the chunk is labelled with. A chunk whose manifest is
not known yet is kept, together with the peer that sent it, until the manifest comes and decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

EMPTY = -2
"""Round of a chunk of which nothing is held; -1 is genesis."""
AHEAD = 64
"""Rounds by which a donor may be ahead of what we have heard of: rounds may be short, and records take their time."""


@dataclass(frozen=True, slots=True)
class Source:
    """A member that holds state, as its heartbeats say."""

    peer: str
    height: int
    head: bytes
    root: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """The state to reach."""

    round: int
    head: bytes
    root: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """A chunk as it lies in the store."""

    round: int
    digest: bytes
    sender: str = ""
    """Peer whose bytes made it what it is; empty if they are our own, or it cannot be told."""


NOTHING_HELD = Held(EMPTY, b"")


class Need(Enum):
    NOTHING = "nothing"
    VERDICT = "verdict"
    """A manifest, or a later target, must come first."""
    MEAN = "mean"
    """The mean of the round after the chunk's."""
    STEP = "step"
    """Nothing from others: the round after the chunk's left it alone."""
    CHUNK = "chunk"


Lie = tuple[str, str]
"""(peer, what it did)"""


def choose_target(sources: Sequence[Source]) -> Target | None:
    """The state that most members report; of equals the newest, then the one with the larger head."""
    votes: dict[Target, int] = {}
    for source in sources:
        target = Target(source.height, source.head, source.root)
        votes[target] = votes.get(target, 0) + 1
    return max(votes, key=lambda target: (votes[target], target.round, target.head, target.root), default=None)


class Holdings:
    """Chunks, manifests and the verdicts on the former by the latter."""

    def __init__(
        self, held: Sequence[Held], replay_limit: int, moves: Callable[[int, int], bool] = lambda _index, _round: True
    ) -> None:
        """`replay_limit`: most rounds over which replaying means is cheaper than fetching the chunk anew.
        `moves(index, round)`: whether a round moves anything of a chunk, if it moves the state at all."""
        self.held = list(held)
        self._moves = moves
        self.replay_limit = replay_limit
        self.target: Target | None = None
        self.roots: dict[int, bytes] = {}
        self.manifests: dict[int, Sequence[bytes]] = {}
        self.gone: set[int] = set()
        """Rounds whose mean no donor has any more."""

    def aim(self, target: Target, roots: Mapping[int, bytes]) -> None:
        """Set what to reach. `roots`: state roots after other rounds, from the records; they overrule earlier ones."""
        self.target = target
        news = {**roots, target.round: target.root}
        for round in [round for round in self.manifests if news.get(round, self.roots[round]) != self.roots[round]]:
            del self.manifests[round]
        oldest = target.round - self.replay_limit
        self.roots = {round: root for round, root in {**self.roots, **news}.items() if round >= oldest}
        self.manifests = {round: digests for round, digests in self.manifests.items() if round in self.roots}
        self.gone = {round for round in self.gone if round >= oldest}

    def leave_history(self, fork: int) -> None:
        """The records after round `fork` were replaced by others: forget what was known by them."""
        self.roots, self.manifests, self.gone = {}, {}, set()
        self.held = [NOTHING_HELD if held.round > fork else held for held in self.held]

    def need(self, index: int) -> Need:
        """What this chunk waits for."""
        assert self.target is not None
        held = self.held[index]
        behind = self.target.round - held.round
        if held.round == EMPTY:
            return Need.CHUNK
        if behind <= 0:
            return Need.NOTHING if behind == 0 and held.round in self.manifests else Need.VERDICT
        lost = (round for round in self.gone if held.round < round <= self.target.round)
        if behind > self.replay_limit or any(self._moves(index, round) for round in lost):
            return Need.CHUNK
        return Need.MEAN if self._moves(index, held.round + 1) else Need.STEP

    def wanted_manifests(self) -> list[int]:
        """Rounds whose manifest would decide something and can be checked, the target first."""
        assert self.target is not None
        newest = self.target.round
        oldest = max(newest - self.replay_limit, EMPTY + 1)
        replayed = [held.round for held in self.held if oldest <= held.round < newest]
        rounds = [newest, *range(min(replayed, default=newest), newest)]
        return [round for round in rounds if round in self.roots and round not in self.manifests]

    def learn(self, round: int, digests: Sequence[bytes]) -> list[Lie]:
        """Take a manifest whose root was checked; forget the chunks that it proves wrong, and say who sent them."""
        self.manifests[round] = digests
        lies = []
        for index, (held, digest) in enumerate(zip(self.held, digests, strict=True)):
            if held.round == round and held.digest != digest:
                self.held[index] = NOTHING_HELD
                if held.sender:
                    lies.append((held.sender, f"sent false bytes for chunk {index} of round {round}"))
        return lies

    def bears_out(self, index: int, held: Held) -> bool:
        """False if the manifest of its round says otherwise."""
        return held.round not in self.manifests or self.manifests[held.round][index] == held.digest

    def judge_chunk(self, index: int, round: int, digest: bytes, reported: int) -> str | None:
        """Why a chunk that came with this label cannot be taken; None if it can. `reported`: round that the donor had
        reached when it was asked, by its own word."""
        assert self.target is not None
        if round in self.manifests:
            true = self.manifests[round][index] == digest
            return None if true else f"sent false bytes for chunk {index} of round {round}"
        if round > self.target.round + AHEAD:
            return f"sent a chunk of round {round}, which nobody has reached"
        if round < reported:
            return f"sent a chunk of round {round} after it had reported round {reported}"
        return None

    def judge_replay(self, index: int, round: int, digest: bytes) -> tuple[bool, bool]:
        """(whether the chunk, brought to `round` by a mean, may be stored, whether the mean is proved false)."""
        base = self.held[index]
        if base.round != round - 1:
            return False, False  # the base was proved wrong while the mean was under way
        if round not in self.manifests or self.manifests[round][index] == digest:
            return True, False
        if base.round in self.manifests:
            return False, True
        self.held[index] = NOTHING_HELD  # base or mean: it cannot be told which, so start anew
        return False, False

    def replay_sender(self, index: int, sender: str) -> str:
        """Whom to blame if the chunk, with `sender`'s mean applied, proves wrong later."""
        base = self.held[index]
        return sender if base.round in self.manifests or base.sender == sender else ""
