"""Light nodes for benchmarks/discovery.py: a real DHT process and a real mesh, but nothing to train.

They are forked from a process that has imported everything, since importing takes seconds and says nothing about
discovery. Each writes what happens to it, one JSON list a line, into a pipe.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from p2p.channel.hello import Hello, RunIdentity
from p2p.channel.mesh import Mesh
from p2p.discovery.dht_process import forked
from p2p.discovery.discovery import Discovery
from p2p.discovery.presence import Place, present
from p2p.errors import SwarmError
from p2p.identity import Identity
from p2p.parent_death import die_with_parent
from p2p.protocol.message import Message

FINGERPRINT = bytes(32)
RUN = "discovery benchmark"
LIMIT_SECONDS = 60.0


class Diary:
    """Writes [event, text, when] lines; `when` is the machine's monotonic clock, the same for all processes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, event: str, text: str = "") -> None:
        os.write(self._descriptor, (json.dumps([event, text, time.monotonic()]) + "\n").encode())


class Owner:
    """MeshHandler of a node that only wants links."""

    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    def open_payload(self, peer: str, message: Message, size: int) -> None: ...

    def on_message(self, peer: str, message: Message, payload: object) -> None: ...

    def on_link_up(self, peer: str, hello: Hello) -> None:  # noqa: ARG002
        self._diary("up", peer)

    def on_link_down(self, peer: str, reason: str) -> None:  # noqa: ARG002
        self._diary("down", peer)

    def on_unreachable(self, peer: str, reason: str) -> None: ...

    def on_refused(self, peer: str, reason: str) -> None:
        self._diary("refused", f"{peer}: {reason}")


def live(node: Node, diary: Diary) -> None:
    """The child's life, until it is killed."""
    try:
        discovery = Discovery.start(
            node.bootstrap,
            node.host,
            node.dht_port,
            node.directory,
            must_join=node.must_join and not (node.directory / "contacts").exists(),
            on_event=lambda text: diary("notice", text),
        )
    except SwarmError as error:
        diary("failed", str(error))
        return
    diary("dht")
    uvloop.run(discovery.serve() if node.dht_only else _run(node, discovery, diary))


async def _run(node: Node, discovery: Discovery, diary: Diary) -> None:
    mesh = Mesh(node.identity, RunIdentity(FINGERPRINT), Owner(diary))
    meet = mesh.meet

    def tell(signed, source):  # type: ignore[no-untyped-def]
        diary("found", signed.contact.peer)
        meet(signed, source)

    mesh.meet = tell  # type: ignore[method-assign]
    port = await mesh.listen(node.host, 0)
    place = Place(RUN, FINGERPRINT, port, node.directory / "contacts")
    async with present(node.identity, discovery, mesh, place, lambda text: diary("notice", text)):
        await asyncio.Event().wait()


@dataclass
class Node:
    """One light node, as the benchmark sees it."""

    name: str
    directory: Path
    host: str = "127.0.0.1"
    namespace: str = ""
    dht_only: bool = False
    must_join: bool = True
    bootstrap: list[str] = field(default_factory=list)
    links: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    """By the DHT."""
    linked_at: float = 0.0
    """When the last link came up."""
    notices: list[str] = field(default_factory=list)
    failed: str = ""
    pid: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        self.identity = Identity.load_or_create(self.directory / "identity.key")
        self.dht_identity = Identity.load_or_create(self.directory / "p2pd.key")
        self.dht_port = free_port()

    @property
    def peer(self) -> str:
        return self.identity.peer_id

    @property
    def address(self) -> str:
        """For bootstrap lists."""
        return f"/ip4/{self.host}/tcp/{self.dht_port}/p2p/{self.dht_identity.peer_id}"


class Nodes:
    """Starts, watches and kills nodes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._rest: dict[int, bytes] = {}

    def start(self, nodes: Iterable[Node], delays: Iterable[float]) -> float:
        """All at the same moment, which is returned, but for these delays."""
        gate, opener = os.pipe()
        for node, delay in zip(nodes, delays, strict=True):
            reader, writer = os.pipe()
            parent = os.getpid()
            node.links, node.found, node.failed = set(), set(), ""
            node.pid = forked()
            if node.pid == 0:
                os.close(opener)
                os.close(reader)
                _child(node, writer, gate, delay, parent)
            os.close(writer)
            os.set_blocking(reader, False)
            self._selector.register(reader, selectors.EVENT_READ, node)
        time.sleep(0.3)  # every child has arrived at the gate
        began = time.monotonic()
        os.close(opener)
        os.close(gate)
        return began

    def until(self, condition: Callable[[], bool], seconds: float, poll: float = LIMIT_SECONDS) -> bool:
        """Follow the diaries until the condition holds; whether it did in time. `poll`: look at least so often."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in self._selector.select(min(left, poll)):
                self._read(key)
        return True

    def watch(self, seconds: float) -> None:
        self.until(lambda: False, seconds)

    def kill(self, nodes: Iterable[Node]) -> None:
        """SIGKILL; the DHT process and p2pd of a node end with it."""
        for node in nodes:
            if node.pid:
                with suppress(ProcessLookupError):
                    os.kill(node.pid, signal.SIGKILL)
                os.waitpid(node.pid, 0)
                node.pid, node.links = 0, set()

    def _read(self, key: selectors.SelectorKey) -> None:
        node: Node = key.data
        data = os.read(key.fd, 1 << 16)
        if not data:
            self._selector.unregister(key.fd)
            os.close(key.fd)
            self._rest.pop(key.fd, None)
            return
        *lines, self._rest[key.fd] = (self._rest.get(key.fd, b"") + data).split(b"\n")
        for line in lines:
            self._note(node, *json.loads(line))

    def _note(self, node: Node, event: str, text: str, when: float) -> None:
        if event == "up":
            node.links.add(text)
            node.linked_at = when
        elif event == "down":
            node.links.discard(text)
        elif event == "found":
            node.found.add(text)
        elif event == "failed":
            node.failed = text
        elif event != "dht":
            node.notices.append(f"{event} {text}")


def linked(nodes: Iterable[Node]) -> bool:
    """Whether all live ones that want links have them to all others."""
    members = [node for node in nodes if node.pid and not node.dht_only]
    return all(node.links >= {other.peer for other in members if other is not node} for node in members)


def _child(node: Node, writer: int, gate: int, delay: float, parent: int) -> None:
    status = 1
    try:
        os.setsid()
        die_with_parent(parent)
        os.dup2(os.open(node.directory / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        if node.namespace:
            _enter(node.namespace)
        os.read(gate, 1)  # until the gate opens
        time.sleep(delay)
        live(node, Diary(writer))
        status = 0
    # nothing may return into the benchmark's code, which this fork is a copy of
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _enter(namespace: str) -> None:
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000):  # CLONE_NEWNET; os.setns came with Python 3.12
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
