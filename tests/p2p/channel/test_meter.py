"""The kernel's counters."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest

import p2p.channel.meter
from p2p.channel.meter import Load, Meter, WireBytes, tcp_counts
from p2p.channel.widening import NO_FLOW


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    return ours, theirs


async def test_bytes_are_counted_by_lane_and_stay_counted_after_the_end() -> None:
    ours, theirs = tcp_pair()
    meter = Meter()
    gauge = meter.attach(ours)
    assert not meter.idle.is_set()
    ours.sendall(b"x" * 1000)
    theirs.sendall(b"y" * 10)
    ours.recv(10, socket.MSG_WAITALL)
    assert meter.total() == meter.total("control") == WireBytes(1000, 10)
    gauge.lane = "bulk"
    assert meter.total("control") == WireBytes(0, 0)
    ours.sendall(b"z" * 7)
    ours.close()
    meter.retire(gauge)
    meter.retire(gauge)
    assert meter.total() == meter.total("bulk") == WireBytes(1007, 10)
    assert meter.exact
    assert meter.idle.is_set()
    theirs.settimeout(5)
    assert len(theirs.recv(2000, socket.MSG_WAITALL)) == 1007  # and the end: the gauge has let go of the socket
    theirs.close()


async def test_the_load_is_what_the_open_bulk_lanes_have_carried() -> None:
    ours, theirs = tcp_pair()
    meter = Meter()
    gauge = meter.attach(ours)
    assert meter.bulk_load() == Load(0, 0, 0)
    gauge.lane = "bulk"
    ours.sendall(b"x" * 1_000_000)
    theirs.recv(1_000_000, socket.MSG_WAITALL)
    theirs.sendall(b"y" * 10)  # carries the acknowledgement, too
    ours.recv(10, socket.MSG_WAITALL)
    load = meter.bulk_load()
    assert load.delivered >= 1_000_000
    assert load[1:] == (10, 1)
    ours.close()
    meter.retire(gauge)
    assert meter.bulk_load() == Load(0, 0, 0)
    theirs.close()


async def test_the_flow_tells_the_round_trip_too_once_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tcp_pair()
    meter = Meter()
    gauge = meter.attach(ours)
    ours.sendall(b"x" * 1000)
    theirs.recv(1000, socket.MSG_WAITALL)
    theirs.sendall(b"y" * 10)
    ours.recv(10, socket.MSG_WAITALL)
    flow = gauge.flow()
    assert flow.delivered >= 1000
    assert (flow.received, flow.lanes) == (10, 1)
    assert 0 < flow.round_trip < 1
    assert gauge.rate() > 0
    window, round_trip = gauge.window()
    assert window > 1000
    assert round_trip == flow.round_trip
    assert not gauge.rests()
    assert flow.unsent == 0
    ours.setblocking(False)
    while ours in select.select([], [ours], [], 0)[1]:
        ours.send(b"x" * 100_000)
    assert gauge.flow().unsent > 0, "nobody reads"
    with monkeypatch.context() as patch:
        patch.setattr(p2p.channel.meter, "_tcp_info", lambda _tcp: bytes(80) + b"\4" + bytes(135))
        assert gauge.rests()
    ours.close()
    meter.retire(gauge)
    assert gauge.window() == (0, 0.0)
    assert gauge.flow() == NO_FLOW
    assert gauge.rate() == 0
    assert not gauge.rests()
    theirs.close()


async def test_where_the_kernel_does_not_count_the_frames_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2p.channel.meter.sys, "platform", "darwin")
    ours, theirs = tcp_pair()
    meter = Meter()
    gauge = meter.attach(ours)
    gauge.frames_sent, gauge.frames_received = 5, 6
    assert not meter.exact
    assert meter.total() == WireBytes(5, 6)
    meter.retire(gauge)
    assert meter.total() == WireBytes(5, 6)
    ours.close()
    theirs.close()
    await asyncio.sleep(0)


def test_a_socket_that_is_not_tcp_has_no_counters() -> None:
    ours, theirs = socket.socketpair()
    assert tcp_counts(ours) is None
    ours.close()
    theirs.close()
