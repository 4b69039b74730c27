"""Hosts that reach each other until they are cut off, and leave no namespace behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.simulate.network import Network, NoNamespaces

PING = "import socket, sys; socket.create_connection((sys.argv[1], 5), timeout=float(sys.argv[2]))"
"""Nothing listens: who is reached refuses at once, who is not says nothing."""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    try:
        network = Network(tmp_path)
    except NoNamespaces as reason:
        pytest.skip(str(reason))
    for name in ("a", "b", "c"):
        network.add(name)
    yield network
    network.close()


def reaches(network: Network, here: str, there: str, seconds: float = 5.0) -> bool:
    command = [*network.inside(here), "python3", "-c", PING, network.address(there), str(seconds)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "Refused" in said or "timed out" in said, said
    return "Refused" in said


def test_a_cut_parts_a_pair_and_no_other_and_heals(network: Network) -> None:
    assert reaches(network, "a", "b")
    pairs = network.cut(["a"], ["b"])
    assert not reaches(network, "a", "b", 0.3)
    assert not reaches(network, "b", "a", 0.3)
    assert reaches(network, "a", "c")
    assert reaches(network, "c", "b")
    assert network.cut(["a", "c"], ["b"]) == [frozenset("bc")]  # what is cut already is not this cut's to heal
    network.heal(pairs)
    assert reaches(network, "a", "b")
    assert not reaches(network, "c", "b", 0.3)
    network.heal()
    assert reaches(network, "c", "b")


def test_who_may_not_make_namespaces_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NoNamespaces, match=r"not root.*run as root .* or leave the cut out"):
        Network(tmp_path)


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "ip" else "/bin/" + tool)
    with pytest.raises(NoNamespaces, match=r"ip missing|not root"):
        Network(tmp_path)
