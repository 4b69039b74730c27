"""`swarm audit`: proves from the records on disk what the run has committed, and says what it proved."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from p2p.chain_file import ChainReader
from p2p.errors import SwarmError
from p2p.identity import verify
from p2p.protocol import ledger
from p2p.protocol.audit import Audit, assigned_samples, shown
from p2p.protocol.lineages import Fork, Lineage, Lineages, Violation
from swarm.events import short
from swarm.state_dir import RECORDS, find

PROGRESS_SECONDS = 0.2


class DifferentRuns(SwarmError):
    """The chains do not belong together."""


@dataclass(frozen=True)
class Proof:
    """What was proved of one run's chains, and the first thing that is wrong, if anything is."""

    fingerprint: bytes
    chains: tuple[str, ...]
    lineages: tuple[Lineage, ...]
    forks: tuple[Fork, ...]
    ended: Mapping[str, int]
    """Height of each chain that was read to its end."""
    torn: Mapping[str, int]
    """Bytes of an incomplete record at the end of a chain: left by a crash, or being written."""
    violation: Violation | None

    def lines(self) -> list[str]:
        """For people."""
        text = [f"run {self.fingerprint.hex()[:12]}, {_count(len(self.chains), 'chain')}: {', '.join(self.chains)}"]
        text += [_fork(fork) for fork in self.forks]
        for lineage in self.lineages:
            if len(self.lineages) > 1:
                text.append(f"the lineage of {', '.join(lineage.nodes)}:")
            text += _proved(lineage.audit)
        text.append(self._agreement())
        text += [f"note        {name} ends in {size} bytes of an incomplete record" for name, size in self.torn.items()]
        if self.violation is not None:
            text.append(f"VIOLATION   {self.violation}")
        return text

    def _agreement(self) -> str:
        if self.violation is not None:
            return "agreement   not compared any further"
        ends: dict[int, list[str]] = {}
        for name, height in sorted(self.ended.items()):
            ends.setdefault(height, []).append(name)
        where = "; ".join(f"{', '.join(ends[height])} at round {height}" for height in sorted(ends, reverse=True))
        histories = "one history" if len(self.lineages) == 1 else f"{len(self.lineages)} histories"
        return f"agreement   {histories}; chains end with {where}"


def audit(paths: Sequence[Path], *, one_lineage: bool) -> int:
    """Print what is proved of the chains under `paths`; returns the exit status.

    Raises NothingThere, ForeignChain, DifferentRuns.
    """
    chains = find(paths, RECORDS)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("auditing")
        proof = prove(chains, lambda done, total: bar.update(task, completed=done, total=total))
    sys.stdout.write("\n".join(proof.lines()) + "\n")
    return 1 if proof.violation or (one_lineage and proof.forks) else 0


def prove(chains: Mapping[str, Path], on_progress: Callable[[int, int], None] = lambda _done, _total: None) -> Proof:
    """Audit all chains side by side, a record at a time. `on_progress`: (bytes read, bytes in all)."""
    with ExitStack() as stack:
        readers = {name: ChainReader(path) for name, path in chains.items()}
        for reader in readers.values():
            stack.callback(reader.close)
        fingerprint = _fingerprint(readers)
        lineages = Lineages(readers, fingerprint, verify)
        violation = None
        total, told = sum(reader.size for reader in readers.values()), 0.0
        try:
            while lineages.step():
                if time.monotonic() - told > PROGRESS_SECONDS:
                    told = time.monotonic()
                    on_progress(sum(reader.offset for reader in readers.values()), total)
        except Violation as found:
            violation = found
        return Proof(
            fingerprint,
            tuple(chains),
            tuple(lineages.all),
            tuple(lineages.forks),
            lineages.ended,
            {name: reader.torn_bytes for name, reader in readers.items() if reader.torn_bytes},
            violation,
        )


def _fingerprint(readers: Mapping[str, ChainReader]) -> bytes:
    first = next(iter(readers))
    for name, reader in readers.items():
        if reader.fingerprint != readers[first].fingerprint:
            raise DifferentRuns(f"{first} and {name} hold records of different runs: audit each run by itself")
    return readers[first].fingerprint


def _proved(found: Audit) -> list[str]:
    """What is true of one lineage."""
    tip, cursor = found.tip, found.ledger.cursor
    if tip.height < 0:
        return ["chain       no round is proved"]
    outstanding = {"assigned": ledger.merged(assigned_samples(found.ledger)), "free": found.ledger.free}
    less = [f"{ledger.size(spans):,} {what}, {shown(spans)}" for what, spans in outstanding.items() if spans]
    return [
        f"chain       rounds 0 to {tip.height} follow from genesis: {tip.tokens_total:,} tokens, "
        f"head {tip.head.hex()[:12]}",
        f"signatures  {found.signatures:,} by {found.seats:,} seats, each genuine and by a seat of its record",
        f"ledger      each follows from the one before, {found.quota} samples for a member and round",
        f"samples     {ledger.size(found.committed):,} committed, each once: all of [0, {cursor}) "
        f"less {' and '.join(less) or 'none'}",
    ]


def _fork(fork: Fork) -> str:
    sides = " against ".join(", ".join(side) for side in fork.sides)
    both = ", ".join(short(peer) for peer in fork.signed_both) or "nobody"
    place = f"after round {fork.after}" if fork.after >= 0 else "from the start"
    return f"FORK        {place}: {sides}; signed on both sides: {both}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
