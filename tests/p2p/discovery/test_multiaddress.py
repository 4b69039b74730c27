"""Bootstrap lists as people write them, right and wrong."""

import pytest

from p2p.discovery.multiaddress import EXAMPLE, BadMultiaddr, parse_bootstrap_peers, tcp_multiaddress

ED25519 = "12D3KooWLo7JAHMezSYkSrMaL6ed3Yisi9jdS8MetXN6zsssAmbU"
RSA = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"


def test_example_is_itself_right() -> None:
    (address,) = parse_bootstrap_peers([EXAMPLE])
    assert (address.host, address.port, address.p2pd) == ("203.0.113.7", 7401, ED25519)
    assert address.text == EXAMPLE
    assert address.transport == "/ip4/203.0.113.7/tcp/7401"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        (f"/dns4/bootstrap/tcp/7401/p2p/{ED25519}", "bootstrap"),
        (f"/dns/swarm.example.org/tcp/1/p2p/{RSA}", "swarm.example.org"),
        (f"/ip6/::1/tcp/65535/p2p/{ED25519}", "::1"),
        (f"  /ip4/127.0.0.1/tcp/7401/p2p/{ED25519}\n", "127.0.0.1"),
    ],
)
def test_hosts_of_every_kind(text: str, host: str) -> None:
    (address,) = parse_bootstrap_peers([text])
    assert address.host == host


def test_repeated_items_count_once() -> None:
    assert len(parse_bootstrap_peers([EXAMPLE, f" {EXAMPLE}"])) == 1


@pytest.mark.parametrize(
    "item",
    [
        "",
        "/",
        "nonsense",
        "127.0.0.1:7401",
        "/ip4/127.0.0.1/tcp/7401",
        f"/ip4/300.0.0.1/tcp/7401/p2p/{ED25519}",
        f"/ip4/127.0.0.1/tcp/99999/p2p/{ED25519}",
        f"/ip4/127.0.0.1/tcp/0/p2p/{ED25519}",
        f"/ip4/127.0.0.1/tcp/x/p2p/{ED25519}",
        f"/ip4/127.0.0.1/udp/7401/quic-v1/p2p/{ED25519}",
        f"/ip4/127.0.0.1/tcp/7401/p2p/{ED25519[:-1]}",
        f"/ip4/127.0.0.1/tcp/7401/p2p/{ED25519}/p2p-circuit/p2p/{ED25519}",
    ],
)
def test_a_wrong_item_is_named_beside_a_right_one(item: str) -> None:
    with pytest.raises(BadMultiaddr) as caught:
        parse_bootstrap_peers([EXAMPLE, item])
    assert repr(item) in str(caught.value)
    assert EXAMPLE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_listen_addresses() -> None:
    assert tcp_multiaddress("10.0.0.1", 1) == "/ip4/10.0.0.1/tcp/1"
    assert tcp_multiaddress("::", 2) == "/ip6/::/tcp/2"
    assert tcp_multiaddress("node.example.org", 3) == "/dns/node.example.org/tcp/3"
