from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from ops.digest import digest
from swarm.data.block_cache import BlockCache
from swarm.data.source import DataError


class Store:
    """Blocks of 100 bytes, and how often each was fetched."""

    def __init__(self) -> None:
        self.blocks = {number: bytes([number]) * 100 for number in range(50)}
        self.fetched: Counter[int] = Counter()

    def get(self, cache: BlockCache, number: int) -> bytes:
        def fetch() -> bytes:
            self.fetched[number] += 1
            return self.blocks[number]

        return cache.block(digest(bytes([number]) * 100), fetch)


def test_a_block_is_fetched_once_also_by_the_next_process(tmp_path: Path) -> None:
    store = Store()
    for cache in (BlockCache(tmp_path / "cache", 10_000), BlockCache(tmp_path / "cache", 10_000)):
        for number in (1, 2, 1):
            assert store.get(cache, number) == store.blocks[number]
    assert store.fetched == {1: 1, 2: 1}


def test_the_folder_stays_within_its_limit_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    store, cache = Store(), BlockCache(tmp_path, 1000)
    for number in range(40):
        store.get(cache, number)
        store.get(cache, 0)
        for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)):
            os.utime(path, ns=(0, 10**18 - age))  # clocks of file systems are too coarse to tell blocks apart
        os.utime(tmp_path / digest(store.blocks[0]).hex())
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
    assert store.fetched[0] == 1, "it was used all the time"
    before = store.fetched.total()
    for number in range(35, 40):
        store.get(cache, number)
    assert store.fetched.total() == before


def test_a_block_that_was_damaged_on_disk_is_fetched_again(tmp_path: Path) -> None:
    store, cache = Store(), BlockCache(tmp_path, 1000)
    store.get(cache, 7)
    (tmp_path / digest(store.blocks[7]).hex()).write_bytes(b"torn")
    assert store.get(cache, 7) == store.blocks[7]
    assert store.fetched[7] == 2


def test_a_wrong_block_is_refused_and_not_kept(tmp_path: Path) -> None:
    store, cache = Store(), BlockCache(tmp_path, 1000)
    store.blocks[3] = b"x" * 100
    with pytest.raises(DataError, match="changed after it was prepared"):
        store.get(cache, 3)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_half_written_goes_like_everything_else(tmp_path: Path) -> None:
    (tmp_path / "new-abc").write_bytes(b"half")
    os.utime(tmp_path / "new-abc", ns=(0, 0))
    store, cache = Store(), BlockCache(tmp_path, 350)
    for number in range(4):
        store.get(cache, number)
    assert not (tmp_path / "new-abc").exists()


def test_threads_may_share_it(tmp_path: Path) -> None:
    store, cache = Store(), BlockCache(tmp_path, 800)
    wrong: list[int] = []

    def work(offset: int) -> None:
        for step in range(200):
            number = (step * 7 + offset) % 20
            if store.get(cache, number) != store.blocks[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_place_where_nothing_can_be_kept_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="data_cache"):
        BlockCache(tmp_path / "file" / "cache", 1000)
