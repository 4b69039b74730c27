"""One member of the DHT: hivemind's DHTNode over a running p2pd. Lives in the DHT process (dht_process.py)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from p2p.discovery import dht_clock
from p2p.discovery.contact_entry import MAX_CONTACTS, ContactValidator
from p2p.discovery.dht_clock import dht_time
from p2p.discovery.hivemind_import import (
    DHTID,
    P2P,
    ControlFailure,
    DHTNode,
    DictionaryDHTValue,
    Multiaddr,
    P2pdClient,
    PeerID,
    PingRequest,
    ValidationError,
)
from p2p.discovery.multiaddress import BootstrapAddress
from p2p.discovery.p2pd import CONTROL_MULTIADDRESS

DIAL_SECONDS = 6.0
CLOCK_SECONDS = 3.0
"""A clock that is wrong by less is not worth a line."""
_LINGER_SECONDS = 1.0
_RPC_SECONDS = 3.0
_LOOKUP_NODES = 8
"""More than the 5 replicas of an entry, so that nodes that just came or went do not hide one."""
_CLIENT_MULTIADDRESS = "/unix/proc/self/cwd/client.sock"  # hivemind wants a name; the DHT's calls never listen on it


class DhtMember:
    """Joins, stores and looks up. Everything that is stored or found has passed `ContactValidator`."""

    def __init__(
        self, node: DHTNode, client: P2pdClient, tell: Callable[[str], None], on_clock: Callable[[], None]
    ) -> None:
        self._node = node
        self._client = client
        self._tell = tell
        self._on_clock = on_clock
        self._warned: set[object] = set()
        self._stale = False
        self._met: dict[PeerID, DHTID] = {}
        self._walks: set[asyncio.Task[object]] = set()

    @classmethod
    async def create(cls, tell: Callable[[str], None], on_clock: Callable[[], None]) -> DhtMember:
        """Make a DHT of one on the p2pd whose socket is in the working directory.

        `tell` gets lines for a person; `on_clock` is called when the DHT's clock turns out to be another than ours.
        """
        p2p = await P2P.replicate(Multiaddr(CONTROL_MULTIADDRESS))
        node = await DHTNode.create(
            p2p=p2p,
            record_validator=ContactValidator(),
            wait_timeout=_RPC_SECONDS,
            refresh_timeout=None,  # hivemind 1.1.12 raises in its own refresh; our traffic keeps the tables fresh
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            cache_refresh_before_expiry=0,
        )
        # hivemind answers a lookup from its storage or from its cache, whichever ends later, and does not merge them:
        # one entry that anybody puts into the cache would hide all others
        node.protocol.cache = node.protocol.storage
        client = await P2pdClient.create(Multiaddr(CONTROL_MULTIADDRESS), Multiaddr(_CLIENT_MULTIADDRESS))
        return cls(node, client, tell, on_clock)

    async def addresses(self) -> list[str]:
        """Full multiaddresses for others' bootstrap lists; those of this machine alone come last."""
        addresses = [str(address) for address in await self._node.get_visible_maddrs(latest=True)]
        return sorted(addresses, key=lambda text: text.startswith(("/ip4/127.", "/ip6/::1/")))

    async def join(self, bootstrap: Sequence[BootstrapAddress]) -> dict[str, str]:
        """Dial every bootstrap peer, make sure that it and we are in each other's routing tables, and heal a split DHT.

        Returns why each unreachable one is so. Safe to call at any time: connections that stand are kept.
        """
        if not bootstrap:
            return {}
        tasks = {asyncio.create_task(self._dial(address)): address.text for address in bootstrap}
        pending = set(tasks)
        while pending and not any(task.done() and task.result() is None for task in tasks):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=_LINGER_SECONDS)
        for task in pending:
            task.cancel()
        await self._walk()
        reasons = {text: "no answer yet" if task in pending else task.result() for task, text in tasks.items()}
        return {text: reason for text, reason in reasons.items() if reason is not None}

    async def store(self, key: str, subkey: str, value: bytes, expiration: float) -> bool:
        """False when the members nearest to `key` hold a newer value."""
        if await self._node.store(key, value, expiration, subkey=subkey):
            return True
        # a member also says no if it holds this very value already, from another that met it while we were storing
        return dict(await self.lookup(key)).get(subkey) == value

    async def lookup(self, key: str) -> list[tuple[str, bytes]]:
        """(subkey, newest value) as held by the members nearest to `key`, at most MAX_CONTACTS.

        DHTNode.get would end its search at the first answer that claims to be valid for ever; this asks all of them.
        """
        key_id = DHTID.generate(source=key)
        nearest = (await self._node.find_nearest_nodes([key_id], k_nearest=_LOOKUP_NODES, exclude_self=True))[key_id]
        protocol = self._node.protocol
        answers = await asyncio.gather(*(protocol.call_find(peer, [key_id]) for peer in nearest.values()))
        found = [protocol.storage.get(key_id), *(answer[key_id][0] for answer in answers if answer)]
        newest: dict[str, tuple[float, bytes]] = {}
        for entry in found:
            if entry is None or not isinstance(entry.value, DictionaryDHTValue):
                continue
            for subkey, (value, expiration) in entry.value.items():
                known = newest.get(subkey)
                if known is None and len(newest) >= MAX_CONTACTS:
                    continue
                if known is None or expiration > known[0]:
                    newest[subkey] = (expiration, value)
        return [(subkey, protocol.serializer.loads(value)) for subkey, (_, value) in newest.items()]

    async def _dial(self, address: BootstrapAddress) -> str | None:
        """None if the peer is in our DHT now, else why not."""
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                peer = PeerID.from_base58(address.p2pd)
                if peer not in {info.peer_id for info in await self._client.list_peers()}:
                    await _probe(address.host, address.port)
                    await self._client.connect(peer, [Multiaddr(address.transport)])
                return await self._meet(peer)
        except TimeoutError:
            return f"no answer within {DIAL_SECONDS:.0f} s"
        except OSError as error:
            return _reason(error)
        except ControlFailure as error:
            return str(error).rpartition("] ")[2][:200]

    async def _meet(self, peer: PeerID) -> str | None:
        self._node.blacklist.register_success(peer)
        await self._set_clock(peer)
        try:
            node_id = await self._node.protocol.call_ping(peer, validate=True, strict=True)
        except ValidationError as error:  # clocks that differ, or a peer that cannot dial us: usable, but say so
            reason = str(error)
            self._warn((peer, reason.partition("(")[0]), f"bootstrap peer {peer}: {reason}")
            node_id = await self._node.protocol.call_ping(peer)
        if node_id is None:
            return "its DHT does not answer"
        if self._met.get(peer) != node_id:  # new to us, or restarted
            self._met[peer] = node_id
            self._stale = True
        return None

    async def _set_clock(self, peer: PeerID) -> None:
        """Go by this peer's clock, if nobody has told us the DHT's time yet."""
        if dht_clock.agreed():
            return
        protocol, asked = self._node.protocol, dht_time()
        try:
            answer = await protocol.get_stub(peer).rpc_ping(PingRequest(peer=protocol.node_info), timeout=_RPC_SECONDS)
        # whatever hivemind raises here, the ping that follows meets it again and tells
        except Exception:  # noqa: BLE001
            return
        ahead = answer.dht_time - (asked + dht_time()) / 2
        if dht_clock.agree(ahead):
            if abs(ahead) > CLOCK_SECONDS:
                self._tell(f"this machine's clock is {-ahead:+.0f} s off the swarm's; the DHT goes by the swarm's")
            self._on_clock()

    async def _walk(self) -> None:
        """After we met somebody new: walk towards ourselves, so that two DHTs that meet in that peer become one."""
        if self._stale:
            self._stale = False
            walk = asyncio.create_task(self._node.find_nearest_nodes([self._node.node_id]))
            self._walks.add(walk)
            walk.add_done_callback(self._walks.discard)
            await asyncio.wait({walk}, timeout=_RPC_SECONDS)  # one that meets frozen members goes on without us

    def _warn(self, subject: object, text: str) -> None:
        """Once for each subject."""
        if subject not in self._warned and len(self._warned) < 1000:
            self._warned.add(subject)
            self._tell(text)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return (error.strerror or str(error)).lower()
    return os.strerror(error.errno).lower()  # asyncio puts its own text in the place of the system's


async def _probe(host: str, port: int) -> None:
    """Raise OSError if nothing listens: p2pd backs off up to 5 minutes from a peer that it failed to dial itself."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
