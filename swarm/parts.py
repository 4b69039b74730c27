"""What a node is made of, built in order and taken apart in reverse."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np

from ops.codec import Codec, get_codec
from ops.warm_up import warm_up
from p2p.chain_file import ChainFile
from p2p.channel.hello import RunIdentity
from p2p.channel.mesh import Mesh
from p2p.contact import Contact, SignedContact, sign_contact
from p2p.discovery.contact_entry import next_sequence
from p2p.discovery.discovery import Discovery
from p2p.discovery.multiaddress import parse_bootstrap_peers
from p2p.identity import Identity, verify
from p2p.member import Member
from p2p.protocol.plan import Rules
from p2p.protocol.serving import DeskLimits
from p2p.reduce.reducer import Reducer
from p2p.transfer.transfer import Transfer
from swarm import events
from swarm.config import Config, NodeConfig, run_fields, run_fingerprint
from swarm.events import EventLog
from swarm.listener import EventListener
from swarm.outer_state import OuterState
from swarm.state_dir import RECORDS
from swarm.train.build import build_trainer
from swarm.train.group import LocalGroup
from swarm.train.trainer import InnerTrainer


@dataclass(frozen=True)
class Parts:
    codec: Codec
    state: OuterState
    trainer: InnerTrainer
    trainer_thread: ThreadPoolExecutor
    mesh: Mesh
    transfer: Transfer
    member: Member


@asynccontextmanager
async def open_parts(config: Config, identity: Identity, discovery: Discovery, log: EventLog) -> AsyncIterator[Parts]:
    """Build everything, listen, announce. Raises SwarmError for what the person who started the node can mend."""
    loop = asyncio.get_running_loop()
    run, node = config.run, config.node
    async with AsyncExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(2, node.threads or _cores()), "kernel"))
        trainer_thread = stack.enter_context(ThreadPoolExecutor(1, "trainer"))
        codec = get_codec(run.codec)
        warm = loop.run_in_executor(pool, warm_up, codec)
        trainer, group = await loop.run_in_executor(trainer_thread, _open_trainer, config)
        stack.callback(group.close)
        theta_P = await loop.run_in_executor(trainer_thread, trainer.initial, run.seed)
        await warm
        state = OuterState(
            theta_P, np.zeros_like(theta_P), codec=codec, lr=run.outer_lr, momentum=run.outer_momentum, pool=pool
        )
        fingerprint = run_fingerprint(run, node.data_dir)
        chain = ChainFile(node.state_dir / RECORDS, fingerprint)
        stack.callback(chain.close)
        if chain.torn_bytes:
            log.write(
                events.Notice(message=f"{chain.path}: cut off {chain.torn_bytes} bytes behind the last good record")
            )
        rules = Rules(
            fingerprint=fingerprint,
            count=state.count,
            codec=codec.name,
            block=codec.block,
            quota=run.inner_steps * run.batch_size,
            min_peers=run.min_peers,
            founders=run.founders,
        )
        listener = EventListener(log)
        member = Member(identity, rules, state, chain, listener)
        mesh = Mesh(
            identity, RunIdentity(fingerprint, run_fields(run, node.data_dir)), member, bulk_lanes=node.bulk_lanes
        )
        transfer = Transfer(
            mesh,
            state,
            chain,
            pool,
            me=identity.peer_id,
            verify=verify,
            limits=donor_limits(node),
            on_drop=listener.on_drop,
        )
        member.wire(mesh, Reducer(codec, state.count, identity.peer_id, mesh, pool), transfer)
        stack.push_async_callback(mesh.close)
        stack.push_async_callback(member.close)
        port = await mesh.listen(node.host, node.port)
        await stack.enter_async_context(_announced(config, identity, discovery, mesh, port))
        log.write(events.Started(peer=identity.peer_id, port=port, bootstrap=tuple(discovery.addresses())))
        yield Parts(codec, state, trainer, trainer_thread, mesh, transfer, member)


def donor_limits(node: NodeConfig) -> DeskLimits:
    """How much of the state this node gives away."""
    if node.donor_mbit is None:
        return DeskLimits()
    rate = node.donor_mbit * 1e6 / 8
    return DeskLimits(bytes_per_second=rate, burst_bytes=rate)


def _open_trainer(config: Config) -> tuple[InnerTrainer, LocalGroup]:
    group = LocalGroup(config.node.device)
    return build_trainer(config, group, config.node.threads or _cores()), group


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@asynccontextmanager
async def _announced(
    config: Config, identity: Identity, discovery: Discovery, mesh: Mesh, port: int
) -> AsyncIterator[None]:
    """While open: announce where we listen, dial whoever is found."""
    hosts = [config.node.announce_host] if config.node.announce_host else _hosts(discovery)
    fingerprint = run_fingerprint(config.run, config.node.data_dir)
    strangers: set[str] = set()
    sequence = 0

    def contact() -> SignedContact:
        nonlocal sequence
        sequence = next_sequence(sequence)
        signed = sign_contact(
            identity,
            Contact(
                peer=identity.peer_id,
                p2pd=discovery.p2pd_id,
                addresses=tuple((host, port) for host in hosts),
                fingerprint=fingerprint,
                sequence=sequence,
                run=config.run.name,
            ),
        )
        mesh.share(signed)
        return signed

    def found(signed: SignedContact) -> None:
        peer = signed.contact.peer
        if signed.contact.fingerprint == fingerprint:
            mesh.share(signed)
            mesh.dial(signed.contact)
        elif peer not in strangers:  # once, so that the refusal tells both operators what differs
            strangers.add(peer)
            mesh.dial(signed.contact)

    contact()
    task = asyncio.create_task(discovery.run(contact, found))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _hosts(discovery: Discovery) -> list[str]:
    """The addresses that the DHT daemon found this machine to have; the data plane listens on the same.

    Loopback only where there is no other: elsewhere it would lead a peer to itself.
    """
    hosts = list(dict.fromkeys(address.host for address in parse_bootstrap_peers(discovery.addresses())))
    return [host for host in hosts if not _is_loopback(host)] or hosts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
