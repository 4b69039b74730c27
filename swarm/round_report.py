"""What is told of each committed round: put together beside the next round's training, so that nobody waits for it."""

from __future__ import annotations

import asyncio

from p2p.outcome import Committed
from swarm import events
from swarm.config import Config
from swarm.events import EventLog
from swarm.inner_training import Work
from swarm.outer_health import NOT_KNOWN, OuterHealth
from swarm.parts import Parts
from swarm.round_meter import RoundMeter
from swarm.vitals import vitals


class RoundReports:
    """One at a time. Methods belong to the event loop, but for `contributed`."""

    def __init__(self, config: Config, parts: Parts, log: EventLog) -> None:
        run = config.run
        self._parts, self._log = parts, log
        self._health = OuterHealth(parts.codec, parts.state.fragments, run.outer_lr, run.outer_momentum)
        self._meter = RoundMeter(parts)
        self._name = config.node.name or events.short(parts.member.me)
        self._writing: asyncio.Task[None] | None = None

    def contributed(self, round: int) -> None:
        """Training for this round has ended; in the trainer's thread, before anything is committed. Not while a report
        is under way."""
        assert self._writing is None, "see `written`"
        feedback = self._parts.feedback
        carry_P = feedback.carry_P if feedback is not None else None
        self._health.contribute(round, self._parts.state.theta_P, self._parts.trainer.vectors.local_P, carry_P)

    def missed(self) -> None:
        """A round ended without us."""
        self._health.missed()

    def restart(self) -> None:
        """A round begins now: what was before counts to none."""
        self._meter.restart()

    def begin(self, outcome: Committed, work: Work) -> None:
        """The round, in which this was ours, is committed: write it down, but do not wait for it."""
        assert self._writing is None, "see `written`"
        self._writing = asyncio.create_task(self._write(self._round(outcome, work), outcome))

    @property
    def under_way(self) -> bool:
        """Whether a report is not yet written. From any thread."""
        writing = self._writing
        return writing is not None and not writing.done()

    async def written(self) -> None:
        """Until the report that is under way, if any, is written."""
        if (writing := self._writing) is None:
            return
        try:
            await asyncio.shield(writing)
        finally:
            if writing.done():
                self._writing = None

    async def _write(self, event: events.Round, outcome: Committed) -> None:
        try:
            loop, round = asyncio.get_running_loop(), outcome.record.round
            health = await loop.run_in_executor(self._parts.pool, self._health.committed, round, outcome.mean)
            event = event.model_copy(update=dict(health))
        finally:  # whatever becomes of its health, the round is reported
            self._log.write(event)
            self._parts.tracking.round(event)

    def _round(self, outcome: Committed, work: Work) -> events.Round:
        """All but its health."""
        record, result = outcome.record, work.result
        return events.Round(
            round=record.round,
            node=self._name,
            peer=self._parts.member.me,
            loss=result.loss if result else None,
            tokens=work.tokens,
            inner_steps=result.steps if result else 0,
            ahead_steps=work.ahead,
            train_seconds=result.seconds if result else 0.0,
            data_seconds=result.data_seconds if result else 0.0,
            mfu=result.mfu if result else None,
            reduce_seconds=outcome.seconds,
            contributors=sum(weight > 0 for weight in record.weights),
            members=record.members,
            record=self._parts.member.head.hash.hex(),
            theta_digest=outcome.state.theta.hex(),
            momentum_digest=outcome.state.momentum.hex(),
            codec=record.codec,
            fragment=record.fragment,
            fragments=record.fragments,
            attempt=record.ballot.attempt,
            **NOT_KNOWN,
            **self._meter.lap(),
            **vitals(),
        )
