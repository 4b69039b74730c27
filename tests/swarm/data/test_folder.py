from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from swarm.data.folder import RETRY_SECONDS, Folder
from swarm.data.source import DataError


def test_files_are_read_whole_and_in_part_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"0123456789")
    fsspec.filesystem("memory").pipe_file("/folder-test/sub/file", b"0123456789")
    for url in (str(tmp_path), f"file://{tmp_path}", "memory://folder-test"):
        folder = Folder(url) / "sub"
        assert folder.read("file") == b"0123456789"
        assert folder.read("file", 2, 5) == b"234"
        assert (folder.local is None) == url.startswith("memory")
    assert (Folder(str(tmp_path)) / "sub").local == tmp_path / "sub"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"there is no file in {tmp_path}"):
        Folder(str(tmp_path)).read("file")
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=f"cannot read sub in {tmp_path}"):
        Folder(str(tmp_path)).read("sub")
    with pytest.raises(DataError, match="cannot read nowhere://x: Protocol not known"):
        Folder("nowhere://x")


class Flaky:
    """A store that fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def __call__(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionResetError("by peer")
        return b"data"


def test_a_store_that_fails_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    folder = Folder("memory://flaky", sleep=slept.append)
    monkeypatch.setattr(folder._fs, "cat_file", Flaky(3))
    assert folder.read("file") == b"data"
    assert slept == list(RETRY_SECONDS[:3])
    monkeypatch.setattr(folder._fs, "cat_file", Flaky(100))
    slept.clear()
    with pytest.raises(DataError, match="cannot read file in memory://flaky: ConnectionResetError: by peer"):
        folder.read("file")
    assert slept == list(RETRY_SECONDS)
