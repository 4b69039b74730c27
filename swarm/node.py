"""A node's life: join, sync, then for each round train, reduce, commit, step; until told to leave.

This file is the algorithm. What happens on the wire is p2p.member's matter, what happens in a step swarm.train's.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TypeVar

import uvloop

from p2p.discovery.discovery import Discovery
from p2p.identity import Identity
from p2p.member import Member, Stranded
from p2p.outcome import Committed, Outcome
from p2p.protocol import ledger
from swarm import events
from swarm.config import Config
from swarm.evaluation import SpareTimeEvaluation
from swarm.events import EventLog
from swarm.garbage import pass_over_what_is_there
from swarm.initial import check_first
from swarm.inner_training import NOTHING, Ahead, InnerTraining, Work, share_of
from swarm.outer_state import OuterState
from swarm.parts import Parts, open_parts
from swarm.restart import START_AGAIN, company_expected, expect_company, restarts
from swarm.round_report import RoundReports
from swarm.state_dir import CONTACTS
from swarm.train.ranks.others import RankLost
from swarm.train.ranks.watch import Lost
from swarm.train.trainer import InnerTrainer

SWITCH_INTERVAL = 5e-4
"""Seconds after which the training thread gives the GIL to the event loop: heartbeats stay punctual."""
WAITING_SECONDS = 10.0
"""How often a node that waits for others says so."""
TRAIN_EVENT_SECONDS = 0.5

T = TypeVar("T")


def main(config: Config) -> int:
    """Run the node; returns its exit status. Raises SwarmError for what the person who started it can mend."""
    log = EventLog(config.node.events_path, quiet=config.node.quiet)
    identity = Identity.load_or_create(config.node.key_path)
    discovery = Discovery.start(  # forks, so before any thread
        config.node.bootstrap_peers,
        config.node.host,
        config.node.dht_port,
        config.node.state_dir,
        must_join=not config.node.may_found and not (config.node.state_dir / CONTACTS).exists(),
        announce_host=config.node.announce_host,
        on_event=lambda text: log.write(events.Notice(message=text)),
    )
    try:
        sys.setswitchinterval(SWITCH_INTERVAL)
        return uvloop.run(_run(config, identity, discovery, log))
    finally:
        discovery.close()
        log.close()


async def _run(config: Config, identity: Identity, discovery: Discovery, log: EventLog) -> int:
    stop = _stop_signal(discovery)
    try:
        async with open_parts(config, identity, discovery, log) as parts:
            pass_over_what_is_there()
            return await _live(config, parts, log, stop)
    except RankLost as error:  # it did not even get started
        _tell_loss(log, error.lost)
        return START_AGAIN


async def _live(config: Config, parts: Parts, log: EventLog, stop: asyncio.Event) -> int:
    """Until the last round, the signal to stop, or the loss of a local rank; returns the exit status."""
    node = Node(config, parts, log)
    life, told, watch = (asyncio.create_task(work) for work in (node.live(), stop.wait(), parts.others.watch()))
    await asyncio.wait({life, told, watch}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    watch.cancel()
    lost = parts.others.lost
    if lost is not None:
        _tell_loss(log, lost)
        parts.others.kill()
        expect_company(bool(parts.mesh.peers()))
    await node.leave()
    life.cancel()
    await asyncio.wait({life})
    await node.reports.written()
    if lost is None or not parts.mesh.peers():  # else the others have the state
        await parts.saver.at_stop(node.member.head, inner=lost is None)
    if not life.cancelled() and (error := life.exception()) is not None and lost is None:
        if not isinstance(error, Stranded):
            raise error
        log.write(events.Notice(message=f"{error}: starts again from its newest checkpoint"))
        expect_company(False)
        return START_AGAIN
    return 0 if lost is None else START_AGAIN


def _tell_loss(log: EventLog, lost: Lost) -> None:
    log.write(events.RankLost(rank=lost.rank, reason=lost.reason, restarts=restarts()))


def _stop_signal(discovery: Discovery) -> asyncio.Event:
    """Set by the first SIGTERM or Ctrl-C; a second one ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            discovery.close()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


class Node:
    """One node, from its first sync to its last round."""

    def __init__(self, config: Config, parts: Parts, log: EventLog) -> None:
        self.config = config
        self.member: Member = parts.member
        self.state: OuterState = parts.state
        self.trainer: InnerTrainer = parts.trainer
        self._saver = parts.saver
        self._parts = parts
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._committing = False
        self._evaluation = SpareTimeEvaluation(parts.trainer)
        self._feedback = parts.feedback
        theta_P, fragments = self.state.theta_P, self.state.fragments
        self._inner = InnerTraining(
            config.run, self.trainer, self._evaluation, parts.codec, theta_P, fragments, parts.feedback
        )
        self._evaluating: asyncio.Future[None] | None = None
        self.reports = RoundReports(config, parts, log)

    async def live(self) -> None:
        """Rounds until the configured last one; for ever without one."""
        await self._gather()
        await self._sync()
        ahead: Ahead | None = None
        while not self._finished():
            work = await self._train(ahead)
            self._saver.prepare(self.member.head.height + 1)
            self._evaluate_meanwhile()
            outcome, ahead = await self._commit(work)
            self._evaluation.pause()
            if isinstance(outcome, Committed):
                await self._keep_rest(outcome)
                self.reports.begin(outcome, work)
                await self._saver.after_round(self.member.head)
            else:
                ahead = None  # its steps were taken from what this round was to become
                self._inner.begin_anew()
                self.reports.missed()
                if self._feedback is not None:
                    self._feedback.reset()
                await self._sync()
        await self.reports.written()
        await self._evaluate_end()
        await self._saver.at_end(self.member.head)

    async def leave(self) -> None:
        """Stop training; finish or hand over what others wait for; say goodbye."""
        self._stopping = True
        self._evaluation.pause()
        await self.member.leave()
        self._log.write(events.Left(round=self.member.head.height))

    # --- join and sync ---

    async def _sync(self) -> None:
        waiting = asyncio.create_task(self._say_what_we_wait_for())
        try:
            fetched = await self.member.sync(self.config.node.may_found)
        finally:
            waiting.cancel()
        height = self.member.head.height
        if fetched is not None and height < 0:
            check_first(self.config.run, self.state.theta_P)
        if fetched is None:
            self._log.write(events.Synced(round=height, bytes=0, seconds=0.0, donors=0))
        else:
            donors = tuple(fetched.donors)
            self._log.write(
                events.Synced(
                    round=height, bytes=fetched.bytes, seconds=fetched.seconds, donors=len(donors), peers=donors
                )
            )
        self.reports.restart()

    async def _say_what_we_wait_for(self) -> None:
        while True:
            await asyncio.sleep(WAITING_SECONDS)
            if (progress := self._parts.transfer.progress) is not None:
                self._log.write(events.Fetching(**asdict(progress)))
                continue
            peers, least = len(self._parts.mesh.peers()) + 1, self.member.rules.quorum(self.member.head)
            self._log.write(events.Waiting(peers=peers, min_peers=least))

    async def _gather(self) -> None:
        """After a stop of the whole run: let its members come together again, lest each goes on alone.

        After a restart of ours the others are there, and only have to be found.
        """
        if company_expected():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.node.gather_seconds):
                    await self.member.company()
        if not (absent := self.member.absent()):
            return
        names, patience = ", ".join(sorted(map(events.short, absent))), self.config.node.gather_seconds
        self._log.write(events.Notice(message=f"waits up to {patience:.0f} s for {names} to come back, too"))
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.member.gather()

    # --- train ---

    async def _train(self, ahead: Ahead | None) -> Work:
        """Inner steps on the samples that the ledger gave us, less those taken ahead; none for a newcomer."""
        round, ranges = self.member.head.height + 1, self.member.assignment
        work = NOTHING
        if ranges:
            work, finite = await self._in_trainer_thread(
                self._inner.train, round, ranges, ahead, self._should_stop, self._show_steps()
            )
            if not finite:
                self._log.write(events.Error(message="parameters are not finite after training: nothing contributed"))
        await self.reports.written()
        if work.source is not None:
            await self._in_trainer_thread(self.reports.contributed, round)
        if self._evaluation_is_due():
            await self._in_trainer_thread(self._begin_evaluation)
        return work

    def _show_steps(self) -> Callable[[int, float], None]:
        """In the trainer's thread, after each step: how far it is."""
        round, shown = self.member.head.height + 1, -math.inf

        def on_step(step: int, loss: float) -> None:
            nonlocal shown
            self.member.inner_step = step + 1
            if time.monotonic() - shown >= TRAIN_EVENT_SECONDS and not self.reports.under_way:  # rounds in their order
                shown = time.monotonic()
                event = events.Train(round=round, inner_step=step + 1, loss=loss)
                self._loop.call_soon_threadsafe(self._log.write, event)

        return on_step

    def _should_stop(self) -> bool:
        return self._stopping or self.member.behind.is_set()

    async def _commit(self, work: Work) -> tuple[Outcome, Ahead | None]:
        """Take part in the round, and train ahead meanwhile where the run wants that."""
        self._committing = True
        steps_ahead = self._go_ahead(work)
        try:
            outcome = await self.member.commit_round(work.tokens, work.used, work.source, work.earlier)
        finally:
            self._committing = False
        return outcome, await steps_ahead if steps_ahead is not None else None

    async def _keep_rest(self, outcome: Committed) -> None:
        """What the committed mean lacks of those that we made goes into our next contribution (coarse codecs only)."""
        if self._feedback is not None and outcome.mean is not None:
            share, (begin, _) = (
                share_of(outcome.record, self.member.me),
                self.state.fragments.span(outcome.record.round),
            )
            await self._in_trainer_thread(self._feedback.commit, outcome.mean, share, begin)

    def _go_ahead(self, work: Work) -> asyncio.Future[Ahead | None] | None:
        """Begin with the next round's inner steps, if there is one and the trainer has nothing else to do."""
        round, last = self.member.head.height + 2, self.config.last_round
        over = last is not None and round > last
        if not self.config.run.overlap_steps or not work.tokens or over or self._evaluation.under_way:
            return None
        spare = ledger.subtract(self.member.assignment, work.used)
        going = self._loop.run_in_executor(
            self._parts.trainer_thread, self._inner.go_ahead, round, spare, self._should_come_back
        )
        going.add_done_callback(_look_at)
        return going

    def _should_come_back(self) -> bool:
        return not self._committing or self._should_stop()

    # --- evaluate, in the time in which others train or reduce ---

    def _evaluation_is_due(self) -> bool:
        """Whoever is done with its training first evaluates, as it will wait longest; one round after the other."""
        every, height = self.config.node.evaluate_every, self.member.head.height
        if every == 0 or self._stopping or self._evaluation.under_way or not self.member.first_done:
            return False
        return height % every == 0 if height > 0 else height < 0  # round 0 moved nothing

    def _begin_evaluation(self) -> None:
        """In the trainer's thread, before a commit can move the agreed parameters."""
        self.trainer.load_flat(self.state.theta_P)
        self._evaluation.begin(self.member.head.height)

    def _evaluate_meanwhile(self) -> None:
        """Go on with the evaluation, if there is one, until the round is committed."""
        if self._evaluation.under_way and not self._stopping:
            self._evaluation.resume()
            self._evaluating = asyncio.ensure_future(self._evaluate())

    async def _evaluate(self) -> None:
        try:
            event = await self._in_trainer_thread(self._evaluation.go_on)
        except RankLost:
            return  # the watch sees to it
        if event is not None:
            self._log.write(event)
            self._parts.tracking.evaluated(event)

    async def _evaluate_end(self) -> None:
        """Nobody waits for the trainer any more: finish what is under way, and evaluate what the run ends with."""
        await self._finish_evaluation()
        if self.config.node.evaluate_every and self.member.rank == 0 and not self._stopping:
            await self._in_trainer_thread(self._begin_evaluation)
            await self._finish_evaluation()

    async def _finish_evaluation(self) -> None:
        if self._evaluating is not None:
            await self._evaluating
        self._evaluate_meanwhile()
        if self._evaluating is not None:
            await self._evaluating

    async def _in_trainer_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await self._loop.run_in_executor(self._parts.trainer_thread, work, *arguments)

    def _finished(self) -> bool:
        last = self.config.last_round
        return last is not None and self.member.head.height >= last


def _look_at(steps_ahead: asyncio.Future[Ahead | None]) -> None:
    """If we end before its result is asked for, its failure is nobody's business any more."""
    if not steps_ahead.cancelled():
        steps_ahead.exception()
