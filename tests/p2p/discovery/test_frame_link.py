"""Frames between the node and its DHT process."""

import asyncio
import socket
from typing import Any

from p2p.discovery.frame_link import FrameLink, new_unpacker, pack


async def test_frames_pass_whole_however_they_are_cut_and_the_end_is_told() -> None:
    ours, theirs = socket.socketpair()
    frames: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
    lost = asyncio.Event()
    early = new_unpacker()
    early.feed(pack(("early",)))  # read by `start`, before there was a loop
    link = FrameLink(frames.put_nowait, lost.set, early)
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
    assert await frames.get() == ("early",)
    data = pack((1, "store", ("key", b"\x00value"))) + pack((2,))
    for index in range(len(data)):
        theirs.send(data[index : index + 1])
    assert await frames.get() == (1, "store", ("key", b"\x00value"))
    assert await frames.get() == (2,)
    assert link.send((3, b"answer"))
    assert theirs.recv(100) == pack((3, b"answer"))
    theirs.close()
    await lost.wait()
    assert not link.send((4,))


async def test_a_reader_that_stopped_cannot_fill_our_memory() -> None:
    ours, theirs = socket.socketpair()
    link = FrameLink(lambda _frame: None, lambda: None)
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
    sent = 0
    while link.send((b"x" * 100_000,)):
        sent += 1
        assert sent < 100
    link.abort()
    theirs.close()
