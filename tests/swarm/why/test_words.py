"""Names and numbers as a story says them."""

from __future__ import annotations

from swarm.why.words import Names, each, some, span

PEER = "12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2SDcyf8"


def test_peers_are_called_by_the_names_of_their_logs() -> None:
    names = Names({PEER: "anna"})
    assert names.of(PEER) == "anna"
    assert names.of("12D3KooWother") == "Wother"
    assert names.within(f"lost {PEER[:-6]}strngr: silent") == "lost strngr: silent"
    assert names.within(f"lost {PEER}: SDcyf8 is silent") == "lost anna: anna is silent"
    assert names.all([PEER, "12D3KooWother"]) == "anna and Wother"


def test_many_are_counted() -> None:
    assert some([str(number) for number in range(9)], "members") == "9 members"
    assert some(["a", "b", "c"]) == "a, b and c"


def test_seconds() -> None:
    assert span([3.04, 3.0]) == "3.0 s"
    assert span([1.0, 2.5, 2.0]) == "1.0 to 2.5 s"
    assert each({"b": 3.2, "a": 3.11, "c": 3.14}) == "a and c after 3.1 s, b after 3.2 s"
    many = {f"n{place}": float(place) for place in range(9)}
    assert each(many) == "9 nodes, n0 first after 0.0 s, n4 half way after 4.0 s, n8 last after 8.0 s"
