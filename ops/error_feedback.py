"""Two-sided error feedback: what quantisation takes away from a round's mean is given back to the next one's.

Two things are lost in a round. Member i contributes x_i and sends Q(x_i); the owner of a piece has the mean of those,
m = sum_i p_i Q(x_i) with shares p_i = tokens_i / tokens, and sends Q(m). So the mean that is applied lacks

    sum_i p_i (x_i - Q(x_i))   +   (m - Q(m))
    contributors' side             owner's side

The first is ordinary error feedback (Seide et al. 2014; arXiv:1901.09847): each member adds its own rest to what it
contributes next. The second is known to the owner alone, and owners change. So the owner adds it, divided by its
share, to its *own* next contribution on that piece: the next mean then has it with the weight p_i / p_i = 1. The mean
of a piece still depends on its contributors' codes and on nothing else, whoever computes it and however often, and
nothing is lost when a piece changes its owner.

Nothing is lost as long as members keep their shares; if a share changes by a factor, what was carried counts by that
factor once. What a member carries dies with it, and is dropped when it falls behind: it belonged to another theta.

Shape suffix: _P any number of values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ops.codec import Codec
from ops.encoded import Encoded, copy_encoded
from ops.jit import Floats


class ErrorFeedback:
    """What one member owes to the next mean. `mean` may be called in several threads, everything else in one."""

    def __init__(self, codec: Codec, count: int) -> None:
        """`codec`: one with `feedback`. `count`: values in the vector; 4 bytes of memory each."""
        assert codec.feedback is not None, codec.name
        self._codec = codec
        self.carry_P: Floats = np.zeros(count, np.float32)
        """To be added to our next contribution: give slices to `Codec.quantise_with_feedback`, which leaves there what
        it could not write. Replaced by `reset`, so that kernels that are still at work spoil nothing."""
        self._left: dict[int, tuple[Encoded, Floats]] = {}
        """Start of a piece that we reduced -> its mean as written, and what it lacks."""

    def mean(self, parts: Sequence[Encoded], weights: Sequence[float], start: int, out: Encoded) -> None:
        """`Codec.mean` of the piece that begins at `start`: the same bytes, and we remember what they lack."""
        left_P = np.empty(out.count, np.float32)
        self._codec.mean_with_rest(parts, weights, out, left_P)
        written = Encoded.allocate(out.codec, out.count)
        copy_encoded(out, written)
        self._left[start] = written, left_P

    def commit(self, mean: Encoded, share: float, begin: int = 0) -> None:
        """The round is committed with this mean, of which our contribution is `share`, or will be in the next round
        if it had no weight in this one. `begin`: where in the vector the mean begins.

        A piece that we reduced counts if it was committed as we wrote it; an attempt that was given up may have left
        others behind. (Should two owners have written the same bytes, one after the other, both count them.)
        """
        assert 0 < share <= 1, share
        for start, (written, left_P) in self._left.items():
            committed = mean.slice(start, start + written.count)
            same_scales = np.array_equal(written.scales_B, committed.scales_B)
            if same_scales and np.array_equal(written.codes, committed.codes):
                left_P /= np.float32(share)
                self.carry_P[begin + start : begin + start + written.count] += left_P
        self._left = {}

    def reset(self) -> None:
        """We fell behind: owe nothing."""
        if self.carry_P.any() or self._left:
            self.carry_P = np.zeros_like(self.carry_P)
            self._left = {}
