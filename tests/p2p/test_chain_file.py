"""The chain on disk: comes back after a restart, and after any tear or corruption comes back shorter, never wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p.chain_file import ChainFile, ChainReader, ForeignChain
from p2p.protocol.chain import InvalidRecord, MemoryChain
from p2p.protocol.messages import SignedRecord
from p2p.protocol.model import unpack
from tests.p2p.protocol.records import FINGERPRINT, history, next_record, signed

RECORDS = history(6)


@contextmanager
def opened(path: Path, fingerprint: bytes = FINGERPRINT) -> Iterator[ChainFile]:
    chain = ChainFile(path, fingerprint)
    try:
        yield chain
    finally:
        chain.close()


def written(path: Path) -> bytes:
    with opened(path) as chain:
        for one in RECORDS:
            chain.append(one)
    return path.read_bytes()


def test_is_a_chain_like_the_one_in_memory(tmp_path: Path) -> None:
    memory = MemoryChain(FINGERPRINT, RECORDS)
    with opened(tmp_path / "records") as chain:
        assert chain.tip == MemoryChain(FINGERPRINT).tip
        for one in RECORDS:
            chain.append(one)
        for again in (chain, ChainFile(tmp_path / "records", FINGERPRINT)):
            assert again.tip == memory.tip
            assert again.torn_bytes == 0
            assert [again.hash_at(r) for r in range(-1, 6)] == [memory.hash_at(r) for r in range(-1, 6)]
            assert again.records(0, 64) == tuple(RECORDS)
            assert again.record(3) == RECORDS[3]
        again.close()
        for query in ((2, 3), (5, 64), (6, 64), (0, 1)):
            assert chain.records(*query) == memory.records(*query)
        assert chain.records(0, 64, max_bytes=1) == tuple(RECORDS[:1])


def test_refuses_what_does_not_follow(tmp_path: Path) -> None:
    with opened(tmp_path / "records") as chain:
        with pytest.raises(InvalidRecord):
            chain.append(RECORDS[1])
        assert chain.tip.height == -1
    assert (tmp_path / "records").stat().st_size == 48


def test_truncate_then_another_history(tmp_path: Path) -> None:
    written(tmp_path / "records")
    with opened(tmp_path / "records") as chain:
        chain.truncate(2)
        other = signed(next_record(chain.tip, tokens=7))
        chain.append(other)
    with opened(tmp_path / "records") as chain:
        assert chain.tip.height == 3
        assert chain.record(3) == other


def test_another_run_is_refused_in_one_line(tmp_path: Path) -> None:
    written(tmp_path / "records")
    with pytest.raises(ForeignChain, match=r"another run: use another node\.state_dir"):
        ChainFile(tmp_path / "records", bytes(32))
    (tmp_path / "text").write_text("something else that a person keeps here, longer than a header\n")
    with pytest.raises(ForeignChain):
        ChainFile(tmp_path / "text", FINGERPRINT)
    assert (tmp_path / "text").read_text().startswith("something else")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, 10_000))
def test_a_torn_tail_costs_only_the_torn_record(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "records"
    path.unlink(missing_ok=True)
    whole = written(path)
    path.write_bytes(whole[: len(whole) - cut % len(whole)])
    with opened(path) as chain:
        kept = chain.tip.height + 1
        assert chain.records(0, 64) == tuple(RECORDS[:kept])
        for one in RECORDS[kept:]:
            chain.append(one)
    assert path.read_bytes() == whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(where=st.integers(48, 10_000), flip=st.integers(1, 255), tail=st.binary(max_size=20))
def test_corruption_and_junk_are_cut_off(tmp_path: Path, where: int, flip: int, tail: bytes) -> None:
    path = tmp_path / "records"
    path.unlink(missing_ok=True)
    data = bytearray(written(path) + tail)
    data[48 + where % (len(data) - 48)] ^= flip
    path.write_bytes(data)
    with opened(path) as chain:
        kept = chain.tip.height + 1
        assert kept <= len(RECORDS)
        assert chain.torn_bytes > 0
        assert chain.records(0, 64) == tuple(RECORDS[:kept])
    with opened(path) as chain:
        assert chain.torn_bytes == 0


@pytest.mark.parametrize("height", [-1, 0, 3, 5])
def test_the_raw_bytes_up_to_a_record_are_a_chain_file(tmp_path: Path, height: int) -> None:
    written(tmp_path / "records")
    with opened(tmp_path / "records") as chain:
        (tmp_path / "copy").write_bytes(b"".join(chain.raw(height)))
        with opened(tmp_path / "copy") as copy:
            assert copy.torn_bytes == 0
            assert copy.tip.height == height
            assert copy.tip.head == chain.hash_at(height)


def test_raw_bytes_of_a_chain_that_is_cut_meanwhile_are_an_error(tmp_path: Path) -> None:
    written(tmp_path / "records")
    with opened(tmp_path / "records") as chain:
        parts = chain.raw(4)
        chain.truncate(2)
        with pytest.raises(OSError, match="cut while it was read"):
            list(parts)


def test_a_record_that_became_unreadable_is_an_error_not_a_lie(tmp_path: Path) -> None:
    path = tmp_path / "records"
    written(path)
    with opened(path) as chain:
        data = bytearray(path.read_bytes())
        data[60] ^= 1
        path.write_bytes(data)
        with pytest.raises(OSError, match="round 0 cannot be read back"):
            chain.record(0)
        assert chain.record(1) == RECORDS[1]


# --- reading without touching ---


def read(path: Path) -> tuple[list[bytes], int]:
    reader = ChainReader(path)
    try:
        return list(reader), reader.torn_bytes
    finally:
        reader.close()


def test_a_reader_gets_every_record_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records"
    whole = written(path)
    bodies, torn = read(path)
    assert [SignedRecord.from_wire(unpack(body)) for body in bodies] == RECORDS
    assert torn == 0
    path.write_bytes(whole[:-5])
    bodies, torn = read(path)
    assert len(bodies) == len(RECORDS) - 1
    assert torn > 0
    assert path.read_bytes() == whole[:-5]


@given(st.data())
def test_a_reader_finds_any_damaged_byte(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("chain") / "records"
    whole = written(path)
    place = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    try:
        bodies, torn = read(path)
    except (ForeignChain, InvalidRecord):
        return
    assert 16 <= place < 48, "in the fingerprint"
    assert (len(bodies), torn) == (len(RECORDS), 0)


def test_a_torn_end_is_no_damage_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "records"
    whole = written(path)
    last = 8 + len(read(path)[0][-1])
    for cut in range(1, last):
        path.write_bytes(whole[:-cut])
        bodies, torn = read(path)
        assert (len(bodies), torn) == (len(RECORDS) - 1, last - cut)


@pytest.mark.parametrize("content", [b"", b"swarm records 1\n", b"{}" * 40])
def test_a_reader_refuses_what_is_no_chain(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "records").write_bytes(content)
    with pytest.raises(ForeignChain, match="holds no records"):
        ChainReader(tmp_path / "records")
