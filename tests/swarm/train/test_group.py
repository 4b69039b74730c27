from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from swarm.train.group import LocalGroup, NoSuchDevice


@pytest.fixture
def group() -> Iterator[LocalGroup]:
    with LocalGroup() as formed:
        yield formed


def test_it_forms_again_after_it_was_closed_and_leaves_no_thread() -> None:
    with LocalGroup():
        pass
    before = threading.active_count()
    for _ in range(5):
        with LocalGroup() as group:
            assert group.world == 1
    assert not dist.is_initialized()
    assert threading.active_count() == before


def test_closing_twice_is_harmless() -> None:
    group = LocalGroup()
    group.close()
    group.close()


def test_a_second_group_in_the_process_is_a_mistake(group: LocalGroup) -> None:
    with pytest.raises(AssertionError, match="open already"):
        LocalGroup()


def test_forming_needs_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", _no_lookup)
    with LocalGroup():
        assert dist.get_world_size() == 1


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="has that device")
def test_a_device_that_is_not_there_says_what_to_do() -> None:
    with pytest.raises(NoSuchDevice, match=r'no device cuda:7: .* set device = "cpu"'):
        LocalGroup("cuda:7")
    assert not dist.is_initialized()


def _no_lookup(*arguments: object) -> None:
    raise AssertionError("looked up a host name")
