"""The libp2p daemon (p2pd) under hivemind's DHT: start it, watch it, leave nothing of it behind.

We start it ourselves, where hivemind.P2P.create would: it must die with its parent, keep its socket out of /tmp, and
speak TCP only (its QUIC resets connections).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import subprocess
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

from p2p.discovery.hivemind_import import P2PD_PATH
from p2p.discovery.multiaddress import tcp_multiaddress
from p2p.errors import SwarmError
from p2p.identity import Identity
from p2p.libp2p_import import crypto_pb2
from p2p.parent_death import die_with_parent

SOCKET_NAME = "p2pd.sock"
CONTROL_MULTIADDRESS = f"/unix/proc/self/cwd/{SOCKET_NAME}"
"""Where the daemon listens for us: in the directory that both processes work in, so no path can exceed the 108 bytes
that a Unix socket's name may have."""
_START_SECONDS = 15.0


class DhtPortInUse(SwarmError):
    """Something else listens on the DHT port."""


class DhtHostError(SwarmError):
    """The DHT cannot listen on this address."""


class P2pdFailed(SwarmError):
    """The daemon did not start."""


@dataclass(frozen=True)
class Listen:
    """Where the daemon listens, and as what others should dial it."""

    host: str
    port: int
    announce_host: str | None = None


def check_listen(listen: Listen) -> None:
    """Raise DhtPortInUse or DhtHostError, where p2pd would share the port with another p2pd without a word."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(listen.host).version == 6 else socket.AF_INET
    except ValueError:
        raise DhtHostError(f"the DHT host {listen.host!r} is not an IP address: use 0.0.0.0 for all") from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise DhtPortInUse(
                    f"DHT port {listen.port} on {listen.host} is in use: stop what listens there or set dht_port"
                ) from None
            raise DhtHostError(f"the DHT cannot listen on {listen.host}:{listen.port}: {error.strerror}") from None


def free_port(host: str) -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class P2pd:
    """A running daemon; its control socket is `SOCKET_NAME` in `directory`."""

    def __init__(self, process: subprocess.Popen[bytes], output: asyncio.StreamReader, directory: Path) -> None:
        self._process = process
        self._output = output
        self._directory = directory
        self._tail: deque[str] = deque(maxlen=5)

    @classmethod
    async def start(cls, identity: Identity, listen: Listen, directory: Path) -> P2pd:
        """Start a daemon with this key. Raises DhtPortInUse, DhtHostError, P2pdFailed."""
        check_listen(listen)
        (directory / SOCKET_NAME).unlink(missing_ok=True)
        process = _spawn(identity, listen, directory)
        output = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), process.stdout)
        daemon = cls(process, output, directory)
        try:
            await asyncio.wait_for(daemon._until_ready(), _START_SECONDS)
        except TimeoutError:
            daemon.kill()
            raise P2pdFailed(f"the libp2p daemon did not start within {_START_SECONDS:.0f} s") from None
        # a cancellation too must not leave the daemon behind
        except BaseException:
            daemon.kill()
            raise
        return daemon

    async def _until_ready(self) -> None:
        while line := await self._output.readline():
            self._tail.append(line.decode(errors="replace").strip())
            if line.startswith(b"Peer ID:"):
                return
        raise P2pdFailed(f"the libp2p daemon ended at its start: {self.last_words()}")

    async def ended(self) -> str:
        """Wait until the daemon is no more; its last line of output."""
        while line := await self._output.readline():
            self._tail.append(line.decode(errors="replace").strip())
        self.kill()
        return self.last_words()

    def last_words(self) -> str:
        return self._tail[-1][:300] if self._tail else "no output"

    def kill(self) -> None:
        """End the daemon and remove its socket; it has nothing to flush."""
        self._process.kill()
        self._process.wait()
        with suppress(FileNotFoundError):
            (self._directory / SOCKET_NAME).unlink()


def _spawn(identity: Identity, listen: Listen, directory: Path) -> subprocess.Popen[bytes]:
    with _key_descriptor(identity) as key:
        return subprocess.Popen(
            [str(P2PD_PATH), *_arguments(listen, key.fileno())],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(key.fileno(),),
            preexec_fn=partial(die_with_parent, os.getpid()),
            env=os.environ | {"GOLOG_LOG_LEVEL": "error"},
        )


def _key_descriptor(identity: Identity) -> FileIO:
    """The key in p2pd's form (64 bytes: seed and public key, in libp2p's protobuf), in memory only."""
    seed, public = identity.private_key.to_bytes(), identity.private_key.get_public_key().to_bytes()
    message = crypto_pb2.PrivateKey(key_type=crypto_pb2.KeyType.Ed25519, data=seed + public)
    file = FileIO(os.memfd_create("p2pd-key", os.MFD_CLOEXEC), "w+b")
    file.write(message.SerializeToString())
    return file


def _arguments(listen: Listen, key: int) -> list[str]:
    port = listen.port or (free_port(listen.host) if listen.announce_host else 0)
    options: dict[str, object] = {
        "id": f"/proc/self/fd/{key}",
        "listen": CONTROL_MULTIADDRESS,
        "hostAddrs": tcp_multiaddress(listen.host, port),
        "dhtServer": 1,
        "connManager": 1,
        "tls": 1,
        "idleTimeout": "30s",
        # relays, address detection and port mapping talk to strangers and to routers: nodes dial each other directly
        "relay": 0,
        "relayService": 0,
        "relayDiscovery": 0,
        "autoRelay": 0,
        "autonat": 0,
        "natPortMap": 0,
    }
    if listen.announce_host:
        options["announceAddrs"] = tcp_multiaddress(listen.announce_host, port)
    return [f"-{name}={value}" for name, value in options.items()]
