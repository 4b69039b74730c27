"""Is the outer loop healthy? Four numbers a round, which every node computes for itself from a sample of the vector.

    mean_cosine  rho = cos(g_t, g_t-1)         of successive committed means g
    outer_gain   lr * (1 + mu / (1 - mu rho))  how far the outer step goes along g, in units of |g|
    codec_error  |Q(x) - x| / |x|              of what this node contributes, x
    agreement    cos(d, g)                     of this node's pseudo-gradient d with the mean

The gain follows from the outer step (ops/outer_step.py: m_t = mu m_t-1 + g_t, and theta moves by -lr (g_t + mu m_t)) if
means k rounds apart have the cosine rho^k and equal norms: along g_t, m_t is then sum_k (mu rho)^k = 1 / (1 - mu rho).
With rho = 1 it is the lr / (1 - mu) of plain momentum, with rho = 0 the lr (1 + mu) of a single step.

With N contributors of equal weight whose pseudo-gradients have nothing in common, the agreement is 1 / sqrt(N), as each
is a part of the mean; with all alike it is 1. Noise and coarse codecs pull all cosines towards 0.

Where a round averages a fragment of the vector, all four are of that fragment; rho is of its own successive means.

The sample is fixed stretches spread evenly over the vector, so successive means are compared in the same places. Shape
suffixes: _P the flat vector's values, _S those in the sample.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from ops.codec import Codec
from ops.encoded import Encoded
from ops.jit import Floats
from ops.pseudo_gradient import all_finite
from p2p.protocol.fragments import Fragments

STRETCH = 1024
"""Values; a multiple of every codec's block, so a sample is quantised as the vector is."""
STRETCHES = 256
"""At most: a quarter of a million values, some milliseconds. A cosine of so many is known to 0.002."""


class Health(TypedDict):
    """The fields of a Round event that OuterHealth fills; None: not known."""

    mean_cosine: float | None
    outer_gain: float | None
    codec_error: float | None
    agreement: float | None


NOT_KNOWN = Health(mean_cosine=None, outer_gain=None, codec_error=None, agreement=None)


class OuterHealth:
    """Reads what it is given and holds samples: of the last means and, within a round, of our pseudo-gradient."""

    def __init__(self, codec: Codec, fragments: Fragments, lr: float, momentum: float) -> None:
        """fragments: of the vector, one of which is averaged a round. lr, momentum: of the outer step."""
        assert STRETCH % codec.block == 0
        self._codec, self._fragments, self._lr, self._mu = codec, fragments, lr, momentum
        self._last: dict[int, tuple[int, Floats]] = {}
        """The last committed mean of each fragment, and its round."""
        self._own: tuple[Floats, Floats] | None = None
        """Our pseudo-gradient of this round, and what we contribute."""

    def contribute(self, round: int, theta_P: Floats, local_P: Floats, carry_P: Floats | None) -> None:
        """Training for it has ended at `local`; `carry` is contributed, too (error feedback). They are only read.

        Others wait for us, so this takes the samples, and nothing else.
        """
        own_S = self._of(round, theta_P) - self._of(round, local_P)
        self._own = own_S, own_S if carry_P is None else own_S + self._of(round, carry_P)

    def committed(self, round: int, mean: Encoded | None) -> Health:
        """The round's numbers. `mean`: what was applied; None: the round had no weight."""
        own, self._own = self._own, None
        if own is not None and not all(map(all_finite, own)):
            own = None
        last = self._last.pop(self._fragments.of_round(round), None)
        rho = agreement = None
        if mean is not None:
            mean_S = self._decoded(mean)
            follows = last is not None and last[0] == round - len(self._fragments)
            rho = cosine(last[1], mean_S) if last is not None and follows else None
            agreement = cosine(own[0], mean_S) if own is not None else None
            self._last[self._fragments.of_round(round)] = round, mean_S
        return Health(
            mean_cosine=rho,
            outer_gain=outer_gain(self._lr, self._mu, rho) if rho is not None else None,
            codec_error=codec_error(self._codec, own[1]) if own is not None else None,
            agreement=agreement,
        )

    def missed(self) -> None:
        """The round ended without us, and so does what we have of it."""
        self._own = None

    def _of(self, round: int, x_P: Floats) -> Floats:
        begin, end = self._fragments.span(round)
        return np.concatenate([x_P[begin + start : begin + stop] for start, stop in stretches(end - begin)])

    def _decoded(self, mean: Encoded) -> Floats:
        found = stretches(mean.count)
        mean_S = np.empty(sum(stop - start for start, stop in found), np.float32)
        done = 0
        for start, stop in found:
            mean.codec.decode(mean.slice(start, stop), mean_S[done : done + stop - start])
            done += stop - start
        return mean_S


def stretches(count: int) -> list[tuple[int, int]]:
    """[start, stop) of what is sampled of `count` values: everything if that is little, else whole stretches."""
    whole = count // STRETCH
    if whole < STRETCHES:
        return [(0, count)]
    starts = [index * whole // STRETCHES * STRETCH for index in range(STRETCHES)]
    return [(start, start + STRETCH) for start in starts]


def cosine(a_S: Floats, b_S: Floats) -> float | None:
    """a . b / (|a| |b|), summed in float64; None if one of them is zero."""
    norms = np.sqrt(_dot(a_S, a_S)) * np.sqrt(_dot(b_S, b_S))
    return max(-1.0, min(1.0, float(_dot(a_S, b_S) / norms))) if norms > 0 else None


def codec_error(codec: Codec, x_S: Floats) -> float | None:
    """|Q(x) - x| / |x| of finite values; None if all are zero."""
    codes = Encoded.allocate(codec, x_S.size)
    codec.quantise(x_S, codes)
    error_S = np.empty_like(x_S)
    codec.decode(codes, error_S)
    error_S -= x_S
    norm = _dot(x_S, x_S)
    return float(np.sqrt(_dot(error_S, error_S) / norm)) if norm > 0 else None


def outer_gain(lr: float, momentum: float, rho: float) -> float:
    """How far the outer step goes along the mean, in units of its norm, if successive means have the cosine `rho`."""
    return lr * (1.0 + momentum / (1.0 - momentum * rho))


def _dot(a_S: Floats, b_S: Floats) -> float:
    return float(np.einsum("s,s->", a_S, b_S, dtype=np.float64))
