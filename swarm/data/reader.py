"""From global sample indices to batches: the one way in which training reads data.

A reader is a function of the run's configuration alone, so every node, and every rank of a node, can have its own and
all agree. It keeps no position: the ledger (p2p/protocol/ledger.py) is the only record of what was trained on.

Shape suffixes: B samples of a batch, L sequence length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarm.data.batch import Batch, packed
from swarm.data.mix import Interleave, Mix
from swarm.data.order import WindowOrder
from swarm.data.source import DataError, Source, read_round


class Reader:
    """Samples of a mix of sources; may be used from any thread, by several at a time."""

    def __init__(self, sources: Mapping[str, Source], mix: Mix, sequence_length: int, seed: int) -> None:
        """sources: one for each of mix.names."""
        self.sequence_length = sequence_length
        self._mix, self._sources = mix, dict(sources)
        first = self._sources[mix.names[0]]
        for source in self._sources.values():
            if (source.tokenizer, source.eos) != (first.tokenizer, first.eos):
                raise DataError(
                    f"{first.name} and {source.name} were prepared with different tokenizers or ends of documents "
                    f"({first.tokenizer[:12]} {first.eos}, {source.tokenizer[:12]} {source.eos}): prepare them alike"
                )
        self.vocabulary = max(source.vocabulary for source in self._sources.values())
        self._eos = first.eos
        self._interleave = Interleave(mix)
        self._orders = {
            name: WindowOrder(name, source.train.count, sequence_length, seed) for name, source in sources.items()
        }

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples with these global indices (0, 1, 2, ... without end)."""
        windows = []
        for index in indices:
            name, position = self._interleave(index)
            begin = self._orders[name].begin(position)
            windows.append(read_round(self._sources[name].train, begin, self.sequence_length + 1))
        return packed(windows, self._eos, tuple(indices))

    def held_out(self, most_tokens: int) -> Batch:
        """Samples of text that is never trained on: the same for each call, most_tokens at most, but at least one.

        The sources of the last phase share them by their weights; one without held-out text leaves its share out.
        """
        length = self.sequence_length
        weights = dict(self._mix.phases[-1].weights)
        usable = {name: (self._sources[name].held_out.count - 1) // length for name in weights}
        usable = {name: count for name, count in usable.items() if count > 0}
        if not usable:
            raise DataError(
                f"no source has as much held-out text as one sample: "
                f"lower sequence_length (now {length}), or prepare the data with a larger --held-out"
            )
        total = sum(weights[name] for name in usable)
        windows = []
        for name, available in usable.items():
            used = min(available, max(1, most_tokens * weights[name] // total // length))
            starts = (i * available // used * length for i in range(used))  # spread evenly
            windows += [self._sources[name].held_out.read(start, start + length + 1) for start in starts]
        return packed(windows, self._eos)
