"""Hosts with emulated access links: a process and a network namespace each, joined by benchmarks/link_emulator.c.

A host's process opens a TUN device in its own namespace (`join`) and hands it to the benchmark, which gives all of them
to the emulator. Nothing has a name outside of the processes, so nothing can stay behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("link_emulator.c")
NETWORK = IPv4Address("10.84.0.1")
DEVICE = "wan"
"""What its link is called on each host."""
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x400454CA, 0x0001, 0x1000, 0x4000
NEWS_S = 300.0


class NoLinks(Exception):
    """Links cannot be emulated here; the text says why."""


@dataclass(frozen=True)
class Line:
    """One host's access link, Mbit/s."""

    up: float
    down: float


@dataclass(frozen=True)
class Way:
    """What is between any two access links."""

    rtt_ms: float
    loss: float = 0.0
    """Of all packets, each way."""
    queue_ms: float = 100.0
    """How much a link's buffer holds."""


def check() -> None:
    """Raise NoLinks where this process may not make namespaces and devices."""
    missing = [tool for tool in ("ip", "unshare", "cc") if shutil.which(tool) is None]
    if missing:
        raise NoLinks(f"{', '.join(missing)} missing: install iproute2, util-linux and gcc")
    if os.geteuid() != 0:
        raise NoLinks("not root")
    if not Path("/dev/net/tun").exists():
        raise NoLinks("no /dev/net/tun")
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise NoLinks(tried.stderr.strip())


def join(address: str, congestion: str, link: socket.socket) -> None:
    """In a host's process: make its device, with this address, and hand it over on `link`."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), flags))
    for command in (
        "link set lo up",
        f"link set {DEVICE} txqueuelen 10000 up",
        f"address add {address}/16 dev {DEVICE}",
    ):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)
    Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(congestion)
    socket.send_fds(link, [b"x"], [device])
    os.close(device)


class Host:
    """The benchmark's end of one process; orders and news are lines of JSON."""

    def __init__(self, worker: Path, index: int, congestion: str, settings: dict[str, Any]) -> None:
        self.address = str(NETWORK + index)
        ours, theirs = socket.socketpair()
        settings = {"address": self.address, "congestion": congestion, "link": theirs.fileno(), **settings}
        command = ["unshare", "--net", sys.executable, str(worker), json.dumps(settings)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._link = ours

    def device(self) -> int:
        """The descriptor of its TUN device."""
        self._link.settimeout(60.0)
        _, descriptors, _, _ = socket.recv_fds(self._link, 1, 1)
        if not descriptors:
            raise NoLinks("a host could not make its device: see above")
        self._link.close()
        return descriptors[0]

    def tell(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def news(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a host ended: see above")
        return dict(json.loads(line))


class Hosts:
    """Hosts 0, 1, ... on a path. A context manager: all processes end with it."""

    def __init__(self, worker: Path, lines: Sequence[Line], path: Way, congestion: str, **settings: Any) -> None:
        check()
        self._folder = tempfile.TemporaryDirectory()
        self.all: list[Host] = []
        self._emulator: subprocess.Popen[str] | None = None
        try:
            self.all = [Host(worker, index, congestion, settings) for index in range(len(lines))]
            self._start(lines, path)
        # no process may stay behind, whatever went wrong
        except BaseException:
            self.close()
            raise

    def _start(self, lines: Sequence[Line], path: Way) -> None:
        program = Path(self._folder.name) / "link_emulator"
        subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE)], check=True)
        devices = [host.device() for host in self.all]
        # with loss each packet is one of the wire's, so that losses are independent
        settings = [path.rtt_ms * 500, path.loss, path.queue_ms, int(not path.loss), int(NETWORK)]
        hosts = [f"{device}:{line.up * 1e6}:{line.down * 1e6}" for device, line in zip(devices, lines, strict=True)]
        self._emulator = subprocess.Popen(
            [str(program), *(f"{value:.6g}" if value != int(value) else str(int(value)) for value in settings), *hosts],
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=devices,
        )
        for device in devices:
            os.close(device)
        os.sched_setscheduler(self._emulator.pid, os.SCHED_RR, os.sched_param(1))  # delays stay right on a busy machine

    def reshape(self, index: int, line: Line) -> None:
        """A host's link has another speed from now on."""
        assert self._emulator is not None
        assert self._emulator.stdin is not None
        self._emulator.stdin.write(f"{index} {line.up * 1e6} {line.down * 1e6}\n")
        self._emulator.stdin.flush()

    def emulator_cpu(self) -> float:
        """Seconds of CPU that the emulator has taken."""
        assert self._emulator is not None
        fields = Path(f"/proc/{self._emulator.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        processes = [host.process for host in self.all] + ([self._emulator] if self._emulator else [])
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        self._folder.cleanup()
        time.sleep(0.1)  # the kernel takes namespaces down behind the last process
