"""The dice: what they may and may not draw, whatever the swarm looks like."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from swarm.simulate.chaos import Dice, Scene
from swarm.simulate.faults import Chaos

NAMES = [f"node{index}" for index in range(12)]
CALM = Scene(NAMES[:5], (), set(NAMES[:5]), (), "node0", bootstrap=True)


def chaos(**settings: float) -> Chaos:
    return Chaos.model_validate({"seconds": 60.0} | settings)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    states = draw(st.lists(st.sampled_from(("holds", "syncs", "frozen", "down")), min_size=1, max_size=8))
    names = dict(zip(NAMES, states, strict=False))
    running = [name for name, state in names.items() if state in ("holds", "syncs")]
    holders = {name for name, state in names.items() if state == "holds"}
    frozen = [name for name, state in names.items() if state == "frozen"]
    down = [name for name, state in names.items() if state == "down"]
    coordinator = draw(st.sampled_from([None, *running]))
    return Scene(running, frozen, holders, down, coordinator, draw(st.booleans()))


@given(scenes(), st.integers(0, 1 << 30))
def test_the_run_survives_whatever_is_drawn(scene: Scene, seed: int) -> None:
    dice = Dice(chaos(nodes=6, least=2, leave=0.2, bootstrap=0.3, seed=seed))
    alive = len(scene.running) + len(scene.frozen)
    for _ in range(20):
        fault = dice.draw(scene, at=7.5)
        if fault is None:
            continue
        assert fault.at == 7.5
        if fault.node == "bootstrap":
            assert scene.bootstrap
            assert fault.kind in ("restart", "freeze")  # it always comes back
        elif fault.kind in ("join", "restart"):
            assert alive < 6
            assert fault.node is None or fault.node in scene.down
        else:
            assert fault.node in scene.running
            assert len(scene.holders - {fault.node}) >= 2 or fault.node not in scene.holders


def test_the_weights_are_what_is_drawn() -> None:
    dice = Dice(chaos(bootstrap=0.0, coordinator=0.25, start=0.6, kill=0.3, freeze=0.1))
    drawn = [dice.draw(CALM, 0.0) for _ in range(4000)]
    kinds = Counter(fault.kind for fault in drawn if fault)
    for kind, share in (("join", 0.6), ("kill", 0.3), ("freeze", 0.1)):
        assert abs(kinds[kind] / 4000 - share) < 0.04
    victims = Counter(fault.node for fault in drawn if fault and fault.kind != "join")
    # its own share, and its part of what falls on anybody
    assert abs(victims["node0"] / victims.total() - (0.25 + 0.75 / 5)) < 0.05


def test_with_all_places_taken_or_nobody_to_spare_the_other_happens() -> None:
    full, thin = chaos(nodes=5, bootstrap=0.0), replace(CALM, running=NAMES[:2], holders=set(NAMES[:2]))
    assert {fault.kind for _ in range(50) if (fault := Dice(full).draw(CALM, 0.0))} <= {"kill", "freeze"}
    dice = Dice(chaos(bootstrap=0.0))
    assert {fault.kind for _ in range(50) if (fault := dice.draw(thin, 0.0))} == {"join"}
    assert Dice(chaos(nodes=5, kill=0.0, freeze=0.0)).draw(CALM, 0.0) is None


def test_who_is_down_comes_back_in_half_of_the_starts() -> None:
    dice, scene = Dice(chaos(kill=0.0, freeze=0.0)), replace(CALM, down=("node9",))
    kinds = Counter(fault.kind for _ in range(1000) if (fault := dice.draw(scene, 0.0)))
    assert 400 < kinds["restart"] < 600
    assert kinds["join"] == 1000 - kinds["restart"]


def test_a_seed_fixes_the_dice() -> None:
    one, same, other = (Dice(chaos(seed=seed)) for seed in (1, 1, 2))
    draws = [[(dice.pause(), dice.draw(CALM, 0.0)) for _ in range(20)] for dice in (one, same, other)]
    assert draws[0] == draws[1] != draws[2]
    assert all(2.0 <= pause <= 5.0 for pause, _ in draws[0])
