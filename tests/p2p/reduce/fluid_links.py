"""Nodes whose uplinks and downlinks are fluids: what none of them can see alone, one that gets less than its part of
downlinks because others take more, and takes their queues for its own.

Shapes: S senders, R receivers (the same nodes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2p.reduce.uplink import Stream, Uplink

STEP, READINGS = 0.01, 10
"""Seconds; and steps between two readings."""
LONGEST_QUEUE = 0.1
UNSENT = 1 / 40
"""Of what goes to each in a reduce: less than that is all on its way."""


class Fluid:
    """All links carry `capacity` bytes a second; connections keep `kept` of their paces, one more, one less."""

    def __init__(self, believed: Sequence[float], capacity: float, kept: float, seed: int) -> None:
        self.uplinks = [Uplink() for _ in believed]
        for uplink, belief in zip(self.uplinks, believed, strict=True):
            uplink.capacity = belief
        self._capacity, self._kept = capacity, kept
        self._chance = np.random.default_rng(seed)
        self._now = 100.0
        self._delivered_SR = np.zeros((len(believed), len(believed)))

    def reduce(self, seconds: float) -> float:
        """How many times longer it takes than `seconds`: how long links are busy that are full to the end."""
        nodes = len(self.uplinks)
        size = seconds * self._capacity / (nodes - 1)
        left_SR = size * (1 - np.eye(nodes))
        up_SR, down_SR, rates_SR = np.zeros((3, nodes, nodes))  # queues, bytes; bytes a second
        step = 0
        while left_SR.any():
            if step % READINGS == 0:
                queued_SR = (up_SR.sum(1, keepdims=True) + down_SR.sum(0)) / self._capacity
                rates_SR = self._rates(left_SR, queued_SR, UNSENT * size)
            offered_SR = np.minimum(rates_SR * STEP, left_SR - up_SR - down_SR)
            carried_SR = self._pass(self._pass(offered_SR, up_SR, 1), down_SR, 0)
            left_SR -= carried_SR
            left_SR[left_SR < 1] = 0
            self._delivered_SR += carried_SR
            self._now, step = self._now + STEP, step + 1
        for uplink in self.uplinks:
            uplink.pause()
        self._now += 3.0
        return step * STEP / seconds

    def _pass(self, offered_SR: np.ndarray, queue_SR: np.ndarray, axis: int) -> np.ndarray:
        """What links carry in a step of these bytes and of their queues, which change: what is too much for one is
        lost, and is to be sent again. `axis`: over which the flows of one link are added."""
        queue_SR += offered_SR
        carried_SR = queue_SR * self._part(self._capacity * STEP, queue_SR, axis)
        queue_SR -= carried_SR
        queue_SR *= self._part(self._capacity * LONGEST_QUEUE, queue_SR, axis)
        return carried_SR

    @staticmethod
    def _part(most: float, queue_SR: np.ndarray, axis: int) -> np.ndarray:
        """Of each queue that makes `most` bytes of it, if it has more."""
        return np.minimum(1.0, most / np.maximum(1.0, queue_SR.sum(axis, keepdims=True)))

    def _rates(self, left_SR: np.ndarray, queued_SR: np.ndarray, unsent: float) -> np.ndarray:
        """Bytes a second."""
        rates_SR = np.zeros_like(left_SR)
        for sender, uplink in enumerate(self.uplinks):
            left, delivered, queued = left_SR[sender], self._delivered_SR[sender], queued_SR[sender]
            if not left.any():
                uplink.pause()
                continue
            streams = {
                str(to): Stream(int(delivered[to]), int(left[to]), bool(left[to] > unsent), float(queued[to]))
                for to in range(len(left))
                if to != sender
            }
            for to, pace in uplink.read(self._now, streams).items():
                rates_SR[sender, int(to)] = pace * self._kept * (1 + self._chance.normal(0, 0.03))
        return rates_SR
