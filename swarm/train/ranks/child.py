"""A process that is one rank: it does what rank 0 says until the link ends.

Started by the node as `python -m swarm.train.ranks.child SOCKET PARENT`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from p2p.parent_death import die_with_parent
from swarm.config import Config
from swarm.data.open import open_reader
from swarm.train.build import build_rank
from swarm.train.determinism import be_deterministic
from swarm.train.group import LocalGroup, Store
from swarm.train.rank import RankTrainer
from swarm.train.ranks import messages
from swarm.train.ranks.link import LinkEnded, RankLink, close_all
from swarm.train.ranks.messages import indices_of
from swarm.train.ranks.others import store_in
from swarm.train.ranks.pulse import Pulse
from swarm.train.ranks.shared import FlatVectors, SharedMemory
from swarm.train.ranks.watch import BEAT_SECONDS


def main() -> NoReturn:
    descriptor, parent = (int(argument) for argument in sys.argv[1:])
    die_with_parent(parent)
    follow(RankLink(socket.socket(fileno=descriptor)))


def follow(link: RankLink, store: Callable[[], Store] | None = None) -> NoReturn:
    """Live as a rank; the process ends with the link.

    `store`: where the group meets, if rank 0 sends no memory for that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the node, which may need us to finish what it is doing
    status = 0
    try:
        _serve(link, store)
    except LinkEnded:
        pass  # rank 0 is done with us, or dead
    # whatever it is, rank 0 has to hear of it
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        status = 1
        _report(link, f"{type(error).__name__}: {error}")
    # not sys.exit: taking a process group apart waits for ranks that may be dead
    sys.stderr.flush()
    os._exit(status)


def _report(link: RankLink, reason: str) -> None:
    with suppress(LinkEnded):  # then nobody is there to be told
        link.send(messages.Failed(reason=reason[:2000]))


def _serve(link: RankLink, store: Callable[[], Store] | None) -> None:
    setup, (pulse_fd, *descriptors) = link.receive(messages.Setup)
    pulse = Pulse(SharedMemory.of(pulse_fd))
    threading.Thread(target=_beat, args=(link, pulse, setup.rank), daemon=True).start()
    config = Config.model_validate_json(setup.config)
    shared, rest = descriptors[: len(FlatVectors.NAMES)], descriptors[len(FlatVectors.NAMES) :]
    vectors = FlatVectors.of(shared, setup.values)
    open_reader(config.run, config.node)  # its sources are then in memory
    link.send(messages.Done())
    link.receive(messages.Form)
    pulse.begin(setup.rank)
    if config.node.deterministic:
        be_deterministic()
    meeting = store() if store else store_in(rest[0], setup.world)
    group = LocalGroup(config.node.device, setup.rank, setup.world, meeting)
    trainer = build_rank(config, group)
    assert trainer.layout.count == setup.values, "another model than rank 0's"
    vectors.close()
    close_all([pulse_fd, *rest])
    while True:
        pulse.end(setup.rank)
        link.send(messages.Done())
        command, lent = link.receive(object)
        pulse.begin(setup.rank)
        _obey(command, [SharedMemory.of(descriptor) for descriptor in lent], trainer, vectors)


def _obey(command: object, lent: list[SharedMemory], trainer: RankTrainer, vectors: FlatVectors) -> None:
    match command:
        case messages.Load(vector=vector):
            trainer.load_flat(vectors.all_P[vector])
        case messages.Store(vector=vector):
            trainer.store_flat(vectors.all_P[vector])
        case messages.Swap(vector=vector):
            trainer.swap_flat(vectors.all_P[vector])
        case messages.Shift(from_vector=start, to_vector=goal, weight=weight, span=span):
            trainer.shift_flat(vectors.all_P[start], vectors.all_P[goal], weight, span)
        case messages.Step():
            indices = indices_of(command.samples)
            batch = trainer.fetch(indices, map(indices_of, command.ahead))
            assert batch is not None, "nothing stops the wait"
            trainer.step(batch, len(indices), command.of, command.micro_batches, command.at)
        case messages.Evaluate(start=start, stop=stop):
            trainer.evaluate(start, stop)
        case messages.StoreOptimizer(names=names):
            places_P = {name: memory.floats() for name, memory in zip(names, lent, strict=True)}
            trainer.store_optimizer(places_P.__getitem__)
        case messages.LoadOptimizer(names=names, steps=steps):
            trainer.load_optimizer({name: memory.floats() for name, memory in zip(names, lent, strict=True)}, steps)
        case _:
            raise ValueError(f"no command to a rank that trains: {command!r:.200}")
    for memory in lent:
        memory.close()


def _beat(link: RankLink, pulse: Pulse, rank: int) -> None:
    """Show that this process runs, and end it with its link, whatever the other thread waits for."""
    while not link.ended(BEAT_SECONDS):
        pulse.beat(rank)
    os._exit(0)


if __name__ == "__main__":
    main()
