"""What a node is made of, built in order and taken apart in reverse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.codec import Codec, get_codec
from ops.error_feedback import ErrorFeedback
from ops.warm_up import warm_up
from p2p.chain_file import ChainFile
from p2p.channel.hello import RunIdentity
from p2p.channel.mesh import Mesh
from p2p.discovery.discovery import Discovery
from p2p.discovery.presence import Place, present
from p2p.identity import Identity, verify
from p2p.listener import Listener
from p2p.member import Member
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY
from p2p.protocol.plan import Rules
from p2p.protocol.serving import DeskLimits
from p2p.reduce.means import write_mean
from p2p.reduce.reducer import Reducer
from p2p.transfer.keeper import StateKeeper
from p2p.transfer.state_file import StateFile
from p2p.transfer.transfer import Transfer
from swarm import events
from swarm.begin import Beginning, Tell, begin
from swarm.checkpoint.folder import CheckpointFolder, Keep
from swarm.checkpoint.remote import RemoteStore
from swarm.checkpoint.saver import SavedRun, SavePlan, Saver
from swarm.config import Config, NodeConfig, RunConfig, run_fields, run_fingerprint
from swarm.events import EventLog
from swarm.initial import cannot_found, fill_first
from swarm.launch import launch_of
from swarm.listener import EventListener
from swarm.outer_state import OuterState
from swarm.priority import give_way
from swarm.state_dir import CONTACTS, RECORDS, STATE
from swarm.tracking.metrics import METRICS, JsonLines
from swarm.tracking.tracker import Subject
from swarm.tracking.tracking import Tracking
from swarm.train.build import cores, open_trainer
from swarm.train.group import device_of
from swarm.train.ranks.launcher import accept_ranks
from swarm.train.ranks.others import OtherRanks
from swarm.train.trainer import InnerTrainer


@dataclass(frozen=True)
class Parts:
    codec: Codec
    feedback: ErrorFeedback | None
    state: OuterState
    saver: Saver
    tracking: Tracking
    trainer: InnerTrainer
    trainer_thread: ThreadPoolExecutor
    pool: ThreadPoolExecutor
    """For kernels."""
    others: OtherRanks
    mesh: Mesh
    transfer: Transfer
    member: Member


@asynccontextmanager
async def open_parts(config: Config, identity: Identity, discovery: Discovery, log: EventLog) -> AsyncIterator[Parts]:
    """Build everything, listen, announce. Raises SwarmError for what the person who started the node can mend."""
    loop = asyncio.get_running_loop()
    run, node = config.run, config.node
    async with AsyncExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(2, node.threads or cores()), "kernel", initializer=give_way))
        codec = get_codec(run.codec)
        warm = loop.run_in_executor(pool, warm_up, codec)
        trainer, trainer_thread, others = await stack.enter_async_context(_training(config))
        fields, fingerprint = run_fields(run, node.data_dir), run_fingerprint(run, node.data_dir)
        chain = _open_chain(node.state_dir / RECORDS, fingerprint, log)
        stack.callback(chain.close)
        saves = save_plan(node)
        first = await loop.run_in_executor(
            trainer_thread, _begin, config, saves, trainer, chain, identity.peer_id, partial(_tell, loop, log)
        )
        await warm
        state = _outer_state(run, codec, first, pool)
        saved_run = SavedRun(fields, fingerprint, trainer.layout, identity.peer_id)
        listener = EventListener(log)
        member = Member(identity, _rules(run, state, fingerprint), state, chain, listener)
        member.begin_at(first.head)
        mesh = Mesh(identity, RunIdentity(fingerprint, fields), member, bulk_lanes=node.bulk_lanes)
        keeper = await _open_keeper(node, state, fingerprint, listener, stack)
        feedback = ErrorFeedback(codec, state.count) if codec.feedback else None
        write = feedback.mean if feedback else write_mean
        held = state.kept_sizes()
        reducer = Reducer(codec, state.count, identity.peer_id, mesh, pool, listener=listener, write=write, held=held)
        transfer = Transfer(
            mesh,
            state,
            chain,
            pool,
            me=identity.peer_id,
            verify=verify,
            limits=donor_limits(node),
            listener=listener,
            keeper=keeper,
            reducing=lambda: reducer.reducing,
        )
        member.wire(mesh, reducer, transfer)
        stack.push_async_callback(mesh.close)
        stack.push_async_callback(member.close)
        port = await mesh.listen(node.host, node.port)
        place = Place(run.name, fingerprint, port, node.state_dir / CONTACTS, node.announce_host)
        await stack.enter_async_context(present(identity, discovery, mesh, place, partial(_notice, log)))
        log.write(events.Started(peer=identity.peer_id, port=port, bootstrap=tuple(discovery.addresses())))
        tracking = _open_tracking(node, identity.peer_id, saved_run, partial(_tell, loop, log))
        stack.callback(tracking.close)
        copy_inner = partial(loop.run_in_executor, trainer_thread, trainer.inner_state)
        saver = Saver(saves, saved_run, state, chain, copy_inner, log)
        yield Parts(
            codec, feedback, state, saver, tracking, trainer, trainer_thread, pool, others, mesh, transfer, member
        )


def _open_chain(path: Path, fingerprint: bytes, log: EventLog) -> ChainFile:
    chain = ChainFile(path, fingerprint)
    if chain.torn_bytes:
        log.write(events.Notice(message=f"{path}: cut off {chain.torn_bytes} bytes behind the last good record"))
    return chain


def _open_tracking(node: NodeConfig, peer: str, run: SavedRun, tell: Tell) -> Tracking:
    """Raises SwarmError for a tracker that is not installed, or a file that cannot be written."""
    short = events.short(peer)
    subject = Subject(
        run=str(run.fields["name"]),
        node=node.name or short,
        id=f"{run.fingerprint.hex()[:8]}-{short}",
        config=run.fields,
        directory=node.state_dir,
    )
    return Tracking(JsonLines(node.state_dir / METRICS), node.trackers, subject, tell)


def _notice(log: EventLog, text: str) -> None:
    log.write(events.Notice(message=text))


def save_plan(node: NodeConfig) -> SavePlan:
    """What the node was told about its checkpoints. Raises NoSuchStore."""
    keep = Keep(node.checkpoint_keep, node.checkpoint_milestones)
    remote = RemoteStore(node.checkpoint_url) if node.checkpoint_url else None
    return SavePlan(node.checkpoint_every, keep, CheckpointFolder(node.checkpoint_path), node.checkpoint_inner, remote)


def _begin(
    config: Config, saves: SavePlan, trainer: InnerTrainer, chain: ChainFile, peer: str, tell: Tell
) -> Beginning:
    """In the trainer's thread: the first state, and the inner optimizer that goes with it. Raises SwarmError."""
    run, theta_P = config.run, trainer.vectors.theta_P

    def initial(out_P: NDArray[np.float32]) -> bool:
        return fill_first(run, out_P, partial(trainer.initial, run.seed))

    first = begin(trainer.layout, chain, peer, saves.folder, saves.remote, theta_P, initial, tell)
    if not first.held and config.node.may_found:
        raise cannot_found(run)
    if first.held and run.initial and first.head.record is None:
        known_as = run_fields(run, config.node.data_dir)["initial"]
        tell(events.Notice(message=f'starts from {run.initial}; nodes without it are given initial = "{known_as}"'))
    if first.inner is not None:
        trainer.load_inner_state(first.inner)
    return first


def _tell(loop: asyncio.AbstractEventLoop, log: EventLog, event: events.Event) -> None:
    """Write an event from another thread."""
    loop.call_soon_threadsafe(log.write, event)


def _outer_state(run: RunConfig, codec: Codec, first: Beginning, pool: ThreadPoolExecutor) -> OuterState:
    return OuterState(
        first.theta_P,
        first.momentum_P,
        codec=codec,
        lr=run.outer_lr,
        momentum=run.outer_momentum,
        pool=pool,
        round=first.head.height if first.held else EMPTY,
        fragments=Fragments.equal(first.theta_P.size, run.fragments, codec.block),
    )


def _rules(run: RunConfig, state: OuterState, fingerprint: bytes) -> Rules:
    return Rules(
        fingerprint=fingerprint,
        count=state.count,
        codec=run.codec,
        block=state.codec.block,
        quota=(run.inner_steps + run.overlap_steps) * run.batch_size,
        min_peers=run.min_peers,
        founders=run.founders,
        cuts=state.fragments.bounds[1:-1],
    )


async def _open_keeper(
    node: NodeConfig, state: OuterState, fingerprint: bytes, listener: Listener, stack: AsyncExitStack
) -> StateKeeper | None:
    path = node.state_dir / STATE
    if not node.keep_state:
        path.unlink(missing_ok=True)
        return None
    try:
        file = StateFile(path, fingerprint, state.count, state.chunk_values)
    except OSError as error:
        listener("error", {"message": f"{path} cannot be used, a restart will fetch the whole state: {error.strerror}"})
        return None
    keeper = StateKeeper(state, file, listener)
    stack.push_async_callback(keeper.close)
    keeper.start()
    return keeper


def donor_limits(node: NodeConfig) -> DeskLimits:
    """How much of the state this node gives away."""
    if node.donor_mbit is None:
        return DeskLimits()
    rate = node.donor_mbit * 1e6 / 8
    return DeskLimits(bytes_per_second=rate, burst_bytes=rate)


@asynccontextmanager
async def _training(config: Config) -> AsyncIterator[tuple[InnerTrainer, ThreadPoolExecutor, OtherRanks]]:
    """The local group and the thread in which this process is its rank 0. Raises NoSuchDevice, RankLost."""
    node = config.node
    device_of(node.device, 0, node.local_world_size)
    launch, loop = launch_of(os.environ), asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "trainer", initializer=give_way)
    if launch is not None:
        others = await loop.run_in_executor(thread, accept_ranks, launch)
    else:
        others = OtherRanks.start(node.local_world_size)  # by this thread, whose end they do not survive
    try:
        trainer = await loop.run_in_executor(thread, open_trainer, config, others)
        try:
            yield trainer, thread, others
        finally:
            if others.lost is None:
                thread.shutdown()
                trainer.close()
    finally:
        thread.shutdown(wait=others.lost is None)  # on a GPU it may wait for a lost rank for ever
        others.close()
