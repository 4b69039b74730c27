"""The DHT process leaves nothing behind, however its node ends, and outlives what it should outlive."""

import os
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2p.discovery.dht_process import StateDirInUse
from p2p.discovery.discovery import Discovery
from p2p.discovery.p2pd import SOCKET_NAME

DEADLINE_SECONDS = 10.0
HOLDER = """
import sys
from p2p.discovery.discovery import Discovery
discovery = Discovery.start([], "127.0.0.1", 0, sys.argv[1])
print("ready", flush=True)
sys.stdin.read()  # then end without a word to `discovery`
"""


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(pid, []))
    for child in found:
        found.extend(children.get(child, []))
    return found


def start(state_dir: Path) -> tuple[Discovery, list[int]]:
    """A Discovery and its two processes, the DHT's and p2pd."""
    before = set(descendants(os.getpid()))
    discovery = Discovery.start([], "127.0.0.1", 0, state_dir)
    pid, p2pd = (pid for pid in descendants(os.getpid()) if pid not in before)
    return discovery, [pid, p2pd]


def sockets_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if stat.S_ISSOCK(path.stat().st_mode)]


def wait_for_end(descriptors: list[int]) -> None:
    """Wait until every process behind these pidfds has ended."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    left = set(descriptors)
    while left:
        remaining = deadline - time.monotonic()
        assert remaining > 0, f"{len(left)} processes are left behind"
        for descriptor, _ in poll.poll(remaining * 1000):
            poll.unregister(descriptor)
            left.discard(descriptor)
            os.close(descriptor)


def hivemind_sockets() -> set[Path]:
    return set(Path("/tmp").glob("hivemind-*"))


ENDS = ["kill", "terminate", "ctrl-c", "return"]


def test_nothing_outlives_a_node_however_it_ends(tmp_path: Path) -> None:
    before = hivemind_sockets()
    holders: dict[str, subprocess.Popen[bytes]] = {}
    for end in ENDS:
        holders[end] = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    descriptors = []
    try:
        for end, holder in holders.items():
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n", end
            family = descendants(holder.pid)
            assert len(family) == 2, "the DHT process and p2pd"
            assert sockets_in(tmp_path / end) == [tmp_path / end / "dht" / SOCKET_NAME]
            for pid in family:
                maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
                # named shared memory would stay behind
                assert not [line for line in maps if "/dev/shm/" in line and not line.endswith("(deleted)")]
            descriptors += [os.pidfd_open(pid) for pid in family]
        os.kill(holders["kill"].pid, signal.SIGKILL)
        os.killpg(holders["terminate"].pid, signal.SIGTERM)
        os.killpg(holders["ctrl-c"].pid, signal.SIGINT)
        holders["return"].communicate(timeout=DEADLINE_SECONDS)
        wait_for_end(descriptors)
    finally:
        for holder in holders.values():
            holder.kill()
            holder.communicate()
    assert sockets_in(tmp_path) == []
    assert hivemind_sockets() <= before


def test_close_leaves_nothing_and_frees_the_state_directory(tmp_path: Path) -> None:
    discovery, family = start(tmp_path)
    descriptors = [os.pidfd_open(pid) for pid in family]
    first = discovery.p2pd_id
    discovery.close()
    discovery.close()
    wait_for_end(descriptors)
    assert sockets_in(tmp_path) == []
    again = Discovery.start([], "127.0.0.1", 0, tmp_path)
    assert again.p2pd_id == first, "the daemon keeps its key"
    again.close()


def test_a_dead_process_and_daemon_are_cleaned_up_by_close(tmp_path: Path) -> None:
    discovery, family = start(tmp_path)
    descriptors = [os.pidfd_open(pid) for pid in family]
    os.kill(family[0], signal.SIGKILL)
    wait_for_end(descriptors)
    discovery.close()
    assert sockets_in(tmp_path) == []


def test_one_state_directory_serves_one_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    discovery = Discovery.start([], "127.0.0.1", 0, tmp_path)
    monkeypatch.setattr("p2p.discovery.dht_process._LOCK_SECONDS", 0.0)
    try:
        with pytest.raises(StateDirInUse, match=f"{tmp_path} is in use by another node"):
            Discovery.start([], "127.0.0.1", 0, tmp_path)
    finally:
        discovery.close()
