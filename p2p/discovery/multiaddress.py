"""Multiaddresses of the bootstrap list: `/ip4/HOST/tcp/PORT/p2p/PEER-ID`."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2p.errors import SwarmError
from p2p.libp2p_import import ID

EXAMPLE = "/ip4/203.0.113.7/tcp/7401/p2p/12D3KooWLo7JAHMezSYkSrMaL6ed3Yisi9jdS8MetXN6zsssAmbU"
_HOSTS = ("ip4", "ip6", "dns", "dns4", "dns6")


class BadMultiaddr(SwarmError):
    """An item of the bootstrap list that is not a TCP multiaddress with a peer id."""

    def __init__(self, item: str, reason: str) -> None:
        super().__init__(f"bootstrap peer {item!r} is not usable: {reason}; a right one looks like {EXAMPLE}")


@dataclass(frozen=True)
class BootstrapAddress:
    """One item of the bootstrap list, taken apart."""

    text: str
    host: str
    port: int
    p2pd: str
    """Peer id of the DHT daemon that listens there."""

    @property
    def transport(self) -> str:
        """The address without the peer id."""
        return self.text.rpartition("/p2p/")[0]


def parse_bootstrap_peers(items: Sequence[str]) -> tuple[BootstrapAddress, ...]:
    """Check and take apart a bootstrap list; repeated items count once. Raises BadMultiaddr."""
    return tuple(dict.fromkeys(_parse(item.strip()) for item in items))


def _parse(item: str) -> BootstrapAddress:
    try:
        address = Multiaddr(item)
        names = [protocol.name for protocol in address.protocols()]
    except (MultiaddrError, ValueError) as error:
        raise BadMultiaddr(item, str(error).partition(" (string:")[0].rpartition("': ")[2]) from None
    if len(names) < 2 or names[0] not in _HOSTS or names[1] != "tcp":
        raise BadMultiaddr(item, "it must start with a host and a TCP port")
    if names[2:] != ["p2p"]:
        raise BadMultiaddr(item, "it must end with /p2p/ and the peer id that `swarm bootstrap` prints")
    host, port, p2pd = (str(address.value_for_protocol(name)) for name in names)
    if not 1 <= int(port) <= 65535:
        raise BadMultiaddr(item, "its port must be from 1 to 65535")
    return BootstrapAddress(
        f"/{names[0]}/{host}/tcp/{port}/p2p/{ID.from_base58(p2pd).to_base58()}", host, int(port), p2pd
    )


def tcp_multiaddress(host: str, port: int) -> str:
    """`/ip4|ip6|dns/HOST/tcp/PORT` for an IP address or a host name."""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{port}"
