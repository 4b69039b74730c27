"""Ranks that torchrun has started: its rank 0 is the node, the others become the node's local ranks (swarm/launch.py).

torchrun's store tells them where the node listens: a socket without a name in the file system, open to this user only.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from swarm.launch import BadLaunch, Launch
from swarm.train.group import Store
from swarm.train.ranks.child import follow
from swarm.train.ranks.link import RankLink
from swarm.train.ranks.messages import Joined
from swarm.train.ranks.others import READY_SECONDS, OtherRanks, Rank

_KEY = "swarm/socket"


def accept_ranks(launch: Launch) -> OtherRanks:
    """As rank 0: wait for the other ranks. Raises BadLaunch if they do not come."""
    store = _store(launch)
    name = f"swarm-ranks-{secrets.token_hex(16)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{name}")
        listener.listen(launch.world)
        listener.settimeout(READY_SECONDS)
        store.set(_KEY, name)
        ranks: dict[int, Rank] = {}
        while len(ranks) < launch.world - 1:
            try:
                rank = _accepted(listener)
            except TimeoutError:
                raise BadLaunch(f"{launch.world - 1 - len(ranks)} of torchrun's ranks have not come") from None
            ranks[rank.link.receive(Joined, READY_SECONDS)[0].rank] = rank
    return OtherRanks([ranks[number] for number in sorted(ranks)], lambda: _group_store(store))


def _accepted(listener: socket.socket) -> Rank:
    """The next connection of a process of our own user."""
    while True:
        connection, _ = listener.accept()
        pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user == os.getuid():
            return Rank(RankLink(connection), pid)
        connection.close()


def follow_launch(launch: Launch) -> NoReturn:
    """As any other rank: do what rank 0 says, until it has no more use for us."""
    store = _store(launch)
    name = store.get(_KEY).decode()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(f"\0{name}")
    link = RankLink(connection)
    link.send(Joined(rank=launch.rank))
    follow(link, lambda: _group_store(store))


def _store(launch: Launch) -> Store:
    """torchrun's, its keys of an earlier attempt apart."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store, _, _ = next(rendezvous("env://", launch.rank, launch.world, timeout=timedelta(seconds=READY_SECONDS)))
    return store


def _group_store(store: Store) -> Store:
    return dist.PrefixStore("swarm/group", store)  # type: ignore[attr-defined]
