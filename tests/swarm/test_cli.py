"""The command line from outside: what it says and its exit status, never a traceback."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Swarm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def swarm(tmp_path: Path) -> Swarm:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "swarm", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment},
            timeout=60,
        )

    return run


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failure."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("swarm: ")
    return line


def test_help_is_instant_and_lists_the_commands(swarm: Swarm) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = swarm("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # of CPU: the machine may be busy
    assert result.returncode == 0
    for command in ("node", "bootstrap", "simulate", "status", "keygen"):
        assert f"  {command} " in result.stdout
    assert seconds < 0.5


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "hivemind", "libp2p", "numba", "matplotlib")
    code = f"import sys, swarm.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--nonsense"], ["node", "--prot", "1"], ["dance"], ["node", "--port", "x"], []])
def test_wrong_usage_is_status_2(swarm: Swarm, arguments: list[str]) -> None:
    result = swarm(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_unknown_key_in_the_file(swarm: Swarm, tmp_path: Path) -> None:
    (tmp_path / "swarm.toml").write_text("[node]\nprot = 1\n")
    assert "did you mean port?" in complaint(swarm("node", "--config", "swarm.toml"))


def test_wrong_value_of_an_option_and_of_the_environment(swarm: Swarm) -> None:
    assert "--port: expected at most 65535" in complaint(swarm("node", "--port", "70000"))
    assert "SWARM_NODE__PORT (environment): expected a whole" in complaint(swarm("node", SWARM_NODE__PORT="x"))
    assert "--bootstrap-peers: 'x' is no address" in complaint(swarm("bootstrap", "--bootstrap-peers", "x"))


def test_each_mistake_has_its_line(swarm: Swarm) -> None:
    result = swarm("node", "--port", "70000", "--dht-port", "70000")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 2


def test_a_state_directory_that_cannot_be(swarm: Swarm, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot use the state directory" in complaint(swarm("node", "--state-dir", "file"))


def test_keygen_makes_a_key_once_and_prints_its_peer_id(swarm: Swarm, tmp_path: Path) -> None:
    first, second = swarm("keygen", "deep/id.key"), swarm("keygen", "deep/id.key")
    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert first.stdout.startswith("12D3KooW")
    assert (tmp_path / "deep" / "id.key").stat().st_mode & 0o777 == 0o600
    assert swarm("keygen").stdout != first.stdout
    assert (tmp_path / ".swarm" / "identity.key").exists()


def test_keygen_refuses_a_key_that_others_can_read(swarm: Swarm, tmp_path: Path) -> None:
    swarm("keygen", "id.key")
    (tmp_path / "id.key").chmod(0o644)
    assert "chmod 600 id.key" in complaint(swarm("keygen", "id.key"))


def test_status_without_a_node(swarm: Swarm) -> None:
    assert "nothing answers at 127.0.0.1:1 " in complaint(swarm("status", "127.0.0.1:1"))
    assert "nothing answers at 127.0.0.1:2 " in complaint(swarm("status", SWARM_NODE__PORT="2"))
    assert "write HOST:PORT" in complaint(swarm("status", "localhost"))


def test_an_impossible_simulation(swarm: Swarm) -> None:
    assert "--kill-at 9: give a round from 1 to 4" in complaint(swarm("simulate", "--rounds", "5", "--kill-at", "9"))
    assert "at least 1 node" in complaint(swarm("simulate", "--nodes", "0"))
