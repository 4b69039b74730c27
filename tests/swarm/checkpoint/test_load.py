"""What is loaded is what was saved; what is not whole is refused, and the next older one taken."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from p2p.chain_file import ChainFile
from swarm.checkpoint.folder import CheckpointFolder
from swarm.checkpoint.load import Resumed, resume
from swarm.checkpoint.manifest import INNER, MANIFEST, MOMENTUM, RECORDS, THETA
from tests.p2p.protocol.records import peer, verify
from tests.swarm.checkpoint.saved import LAYOUT, ME, chain_of, inner, vectors, world


class Loader:
    """A node that starts: empty vectors, its own chain file, and what it says."""

    def __init__(self, path: Path, peer_id: str = ME) -> None:
        self.folder = CheckpointFolder(path / "checkpoints")
        self.peer = peer_id
        self.theta_P, self.momentum_P = (np.zeros(LAYOUT.count, np.float32) for _ in range(2))
        self.refused: list[tuple[str, str]] = []

    def load(self, chain: ChainFile) -> Resumed | None:
        return resume(
            self.folder,
            LAYOUT,
            self.theta_P,
            self.momentum_P,
            chain,
            self.peer,
            lambda path, reason: self.refused.append((path.name, reason)),
            verify,
        )

    def holds(self, round: int) -> bool:
        theta_P, momentum_P = vectors(round)
        return self.theta_P.tobytes() == theta_P.tobytes() and self.momentum_P.tobytes() == momentum_P.tobytes()


def saved(path: Path, *rounds: int, tokens: int = 100) -> None:
    for round in rounds:
        with world(path, round, tokens) as run:
            run.save()


def test_the_newest_is_taken_with_its_history_and_its_optimizer(tmp_path: Path) -> None:
    saved(tmp_path, 2, 4)
    node = Loader(tmp_path)
    with chain_of(tmp_path / "mine", 0) as chain:
        found = node.load(chain)
        assert found is not None
        assert (found.manifest.round, found.head.height, found.head.hash) == (4, 4, chain.tip.head)
        assert chain.tip.height == 4
    assert node.holds(4)
    assert node.refused == []
    assert found.inner is not None
    assert found.inner.steps == 40
    for name, x_P in inner(4).vectors.items():
        assert found.inner.vectors[name].tobytes() == x_P.tobytes()


def test_another_nodes_checkpoint_gives_the_state_but_not_the_optimizer(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    node = Loader(tmp_path, peer(3))
    with chain_of(tmp_path / "mine", 0) as chain:
        found = node.load(chain)
    assert found is not None
    assert found.inner is None
    assert node.holds(2)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    with chain_of(tmp_path / "mine", 3) as chain:
        assert Loader(tmp_path).load(chain) is None
        assert chain.tip.height == 2


def test_other_runs_are_passed_over(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    node = Loader(tmp_path)
    foreign = ChainFile(tmp_path / "foreign", bytes(32))
    assert node.load(foreign) is None
    assert node.refused == []
    foreign.close()


@pytest.mark.parametrize("name", [THETA, MOMENTUM, RECORDS, INNER, MANIFEST])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_harm_to_any_file_is_seen_and_the_older_one_taken(tmp_path: Path, name: str, harm: str) -> None:
    saved(tmp_path, 2, 4)
    node = Loader(tmp_path)
    victim = node.folder.target(4, ME) / name
    data = bytearray(victim.read_bytes())
    match harm:
        case "flip":
            data[random.Random(name).randrange(len(data))] ^= 0x80
            victim.write_bytes(data)
        case "cut":
            victim.write_bytes(data[: len(data) // 2])
        case "remove":
            victim.unlink()
    with chain_of(tmp_path / "mine", 5) as chain:
        before = chain.tip
        found = node.load(chain)
        assert chain.tip == before
    assert found is not None
    assert found.manifest.round == 2
    assert node.holds(2)
    assert [place for place, _ in node.refused] == [victim.parent.name]


@pytest.mark.parametrize("length", [0, 3, 5, 9])
def test_the_chain_gets_what_it_lacks_and_keeps_what_it_has_beyond(tmp_path: Path, length: int) -> None:
    saved(tmp_path, 4)
    with chain_of(tmp_path / "mine", length) as chain:
        found = Loader(tmp_path).load(chain)
        assert found is not None
        assert chain.hash_at(4).hex() == found.manifest.head
        assert chain.tip.height == max(4, length - 1)


def test_a_chain_of_another_lineage_is_replaced_from_the_fork_on(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    with chain_of(tmp_path / "mine", 7, tokens=90) as chain:
        found = Loader(tmp_path).load(chain)
        assert found is not None
        assert (chain.tip.height, chain.tip.head.hex()) == (4, found.manifest.head)


def test_records_that_nobody_signed_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    node = Loader(tmp_path)
    with chain_of(tmp_path / "mine", 0) as chain:
        found = resume(
            node.folder,
            LAYOUT,
            node.theta_P,
            node.momentum_P,
            chain,
            ME,
            lambda path, reason: node.refused.append((path.name, reason)),
        )
        assert found is None
        assert chain.tip.height == -1
    assert "forged" in node.refused[0][1]
