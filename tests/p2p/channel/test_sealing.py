"""Sealed records: what was sealed is what is opened, however it arrives; nothing else is ever opened."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import p2p.channel.sealing
from p2p.channel.sealing import (
    HEADER,
    OVERHEAD_BYTES,
    RECORD_BYTES,
    Opener,
    Sealer,
    fresh_salt,
    lane_keys,
)
from p2p.protocol.model import BadMessage

KEY = bytes(range(32))


def sealed(sealer: Sealer, plain: bytes) -> bytes:
    room = memoryview(bytearray(len(plain) + OVERHEAD_BYTES))
    assert sealer.seal(plain, room) == len(room)
    return bytes(room)


def opened(opener: Opener, wire: bytes, cut: int = RECORD_BYTES) -> list[bytes]:
    """What is opened of bytes that arrive by `cut` at most."""
    plain: list[bytes] = []
    while wire:
        buffer = opener.buffer()[:cut]
        count = min(len(buffer), len(wire))
        buffer[:count], wire = wire[:count], wire[count:]
        opener.received(count)
        while opener.whole is not None:
            out = bytearray(opener.whole)
            opener.open(memoryview(out))
            plain.append(bytes(out))
    return plain


@given(
    st.lists(st.one_of(st.binary(max_size=50), st.integers(0, RECORD_BYTES).map(bytes)), max_size=8),
    st.integers(1, 3000) | st.just(RECORD_BYTES),
)
def test_records_are_opened_as_they_were_sealed_however_they_arrive(plain: list[bytes], cut: int) -> None:
    sealer = Sealer(KEY)
    assert opened(Opener(KEY), b"".join(sealed(sealer, piece) for piece in plain), max(cut, 64)) == plain


@given(st.data())
def test_a_changed_bit_is_noticed(data: st.DataObject) -> None:
    sealer = Sealer(KEY)
    wire = bytearray(b"".join(sealed(sealer, bytes(size)) for size in (0, 10, 300)))
    bit = data.draw(st.integers(0, 8 * len(wire) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    try:
        plain = opened(Opener(KEY), bytes(wire))
    except BadMessage:
        return
    assert len(plain) < 3, "a length that promises more than comes"
    assert plain == [bytes(0), bytes(10)][: len(plain)]


@given(st.permutations(range(4)), st.integers(0, 4))
def test_records_left_out_repeated_or_swapped_are_noticed(order: list[int], count: int) -> None:
    sealer = Sealer(KEY)
    records = [sealed(sealer, bytes([number])) for number in range(4)]
    chosen = order[:count]
    good = chosen == list(range(count))
    opener = Opener(KEY)
    if good:
        assert len(opened(opener, b"".join(records[number] for number in chosen))) == count
    else:
        with pytest.raises(BadMessage, match="not in this order"):
            opened(opener, b"".join(records[number] for number in chosen))


def test_a_repeated_record_is_noticed() -> None:
    record = sealed(Sealer(KEY), b"pay ten")
    with pytest.raises(BadMessage):
        opened(Opener(KEY), record + record)


def test_padding_is_told_from_what_is_wanted_and_nobody_can_change_which_is_which() -> None:
    sealer = Sealer(KEY)
    room = memoryview(bytearray(10 + OVERHEAD_BYTES))
    sealer.seal(bytes(10), room, padding=True)
    opener, forged = Opener(KEY), bytearray(room)
    opener.buffer()[: len(room)] = room
    opener.received(len(room))
    assert opener.whole == 10
    assert opener.padding
    opener.open(memoryview(bytearray(10)))
    forged[HEADER.size - 1] ^= 0x80
    with pytest.raises(BadMessage):
        opened(Opener(KEY), bytes(forged))
    assert opened(opener, sealed(sealer, b"wanted")) == [b"wanted"]
    assert not opener.padding


def test_a_record_beyond_the_limit_is_refused_by_its_header() -> None:
    with pytest.raises(BadMessage, match=f"where {RECORD_BYTES} are allowed"):
        opened(Opener(KEY), HEADER.pack(RECORD_BYTES + 1))


def test_the_kernel_may_wait_for_what_a_record_lacks() -> None:
    opener, wire = Opener(KEY), sealed(Sealer(KEY), bytes(1000))
    assert opener.missing == HEADER.size
    opener.buffer()[:10] = wire[:10]
    opener.received(10)
    assert opener.missing == len(wire) - 10


def test_keys_are_of_one_lane_and_direction_and_of_both_salts() -> None:
    secret, link, mine, yours = os.urandom(64), os.urandom(16), fresh_salt(), fresh_salt()
    keys = lane_keys(secret, link, 1, mine, yours)
    assert keys == lane_keys(secret, link, 1, mine, yours)
    assert len(keys.dialler) == len(keys.listener) == 32
    others = [
        lane_keys(os.urandom(64), link, 1, mine, yours),
        lane_keys(secret, os.urandom(16), 1, mine, yours),
        lane_keys(secret, link, 2, mine, yours),
        lane_keys(secret, link, 1, fresh_salt(), yours),
        lane_keys(secret, link, 1, mine, fresh_salt()),
        lane_keys(secret, link, 1, yours, mine),
    ]
    assert len({key for pair in (keys, *others) for key in pair}) == 14


def test_another_key_follows_before_one_wears_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2p.channel.sealing, "RECORDS_A_KEY", 3)
    sealer = Sealer(KEY)
    records = [sealed(sealer, b"the same") for _ in range(10)]
    assert len(set(records)) == 10, "no key meets a nonce twice"
    assert opened(Opener(KEY), b"".join(records)) == [b"the same"] * 10


def test_a_greeting_is_an_empty_record() -> None:
    assert opened(Opener(KEY), Sealer(KEY).greeting()) == [b""]
    with pytest.raises(BadMessage):
        opened(Opener(bytes(32)), Sealer(KEY).greeting())
