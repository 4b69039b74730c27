"""The chunks that still need something, sorted by what they need, and those that are being worked on."""

from __future__ import annotations

from collections.abc import Sequence

from p2p.protocol.donors import Request
from p2p.protocol.holdings import NOTHING_HELD, Held, Holdings, Need


class Worklist:
    """Queues over the chunks of `holdings`; a chunk is in one of them, or busy, or needs nothing."""

    def __init__(self, holdings: Holdings, order: Sequence[int]) -> None:
        """`order`: in which chunks are asked for."""
        self.holdings = holdings
        self._order = order
        self.busy: dict[int, list[Request]] = {}
        """Requests under way for a chunk; an empty list while what came is worked on."""
        self.missing: dict[int, None] = {}
        self.behind: dict[int, dict[int, None]] = {}
        """Round of the mean that is needed next -> chunks that wait for it."""
        self.unmoved: dict[int, dict[int, None]] = {}
        """Round that comes next -> chunks that it leaves alone."""
        self.undecided: dict[int, float] = {}
        """Chunks that wait for a verdict, since when."""

    @property
    def empty(self) -> bool:
        return not (
            self.busy or self.missing or self.undecided or any(self.behind.values()) or any(self.unmoved.values())
        )

    def place_all(self, now: float) -> None:
        """Sort all chunks anew: the target or what is known of it has changed."""
        self.missing, self.behind, self.unmoved = {}, {}, {}
        undecided, self.undecided = self.undecided, {}
        for index in self._order:
            self.place(index, undecided.get(index, now))

    def place(self, index: int, now: float) -> None:
        """Put a chunk where it belongs; busy ones stay busy."""
        if index in self.busy:
            return
        self.undecided.pop(index, None)
        need = self.holdings.need(index)
        if need is Need.CHUNK:
            self.missing[index] = None
        elif need is Need.MEAN:
            self.behind.setdefault(self.holdings.held[index].round + 1, {})[index] = None
        elif need is Need.STEP:
            self.unmoved.setdefault(self.holdings.held[index].round + 1, {})[index] = None
        elif need is Need.VERDICT:
            self.undecided[index] = now

    def take_missing(self) -> int | None:
        return _take(self.missing)

    def take_behind(self, round: int) -> int | None:
        return _take(self.behind.get(round, {}))

    def take_unmoved(self, round: int) -> int | None:
        return _take(self.unmoved.get(round, {}))

    def ask(self, request: Request) -> None:
        self.busy.setdefault(request.index, []).append(request)

    def unask(self, request: Request, now: float) -> None:
        """The request will not be answered: unless another is under way for the same chunk, it is free again."""
        if request.index < 0:
            return
        others = self.busy[request.index]
        others.remove(request)
        if not others:
            del self.busy[request.index]
            self.place(request.index, now)

    def work_on(self, index: int) -> list[Request]:
        """The chunk is being worked on from now to `settle`; requests under way for it are returned: they are void."""
        requests = self.busy.get(index, [])
        self.busy[index] = []
        return requests

    def settle(self, index: int, held: Held | None, now: float) -> None:
        """The store now holds this; None: what it held."""
        del self.busy[index]
        if held is not None:
            # the manifest that decides may have come while the chunk was being stored
            self.holdings.held[index] = held if self.holdings.bears_out(index, held) else NOTHING_HELD
        self.place(index, now)

    def forget(self, index: int, now: float) -> None:
        """What is held of a chunk is worthless."""
        self.holdings.held[index] = NOTHING_HELD
        self.place(index, now)


def _take(queue: dict[int, None]) -> int | None:
    index = next(iter(queue), None)
    if index is not None:
        del queue[index]
    return index
