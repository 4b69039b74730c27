"""A folder of files that are only read, on this machine or at any address that fsspec knows (s3://, https://, ...)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from swarm.data.source import DataError

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""How long to wait after each failure of a store, before the last one counts."""


class Folder:
    """url: a path, or an address with a scheme. Safe to read from several threads."""

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises DataError for a scheme that nothing installed here can read."""
        self.url, self._sleep = url.rstrip("/"), sleep
        try:
            self._fs, self._root = fsspec.core.url_to_fs(str(Path(url).expanduser()) if "://" not in url else url)
        except (ImportError, ValueError) as error:
            raise DataError(f"cannot read {url}: {error}") from None
        self.local = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None
        """The folder, if it is on this machine."""

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}", sleep=self._sleep)

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """The bytes [start, stop) of a file, or all. A store that fails is asked again for half a minute.

        Raises DataError.
        """
        for pause in (*RETRY_SECONDS, None):
            try:
                data: bytes = self._fs.cat_file(f"{self._root}/{name}", start=start, end=stop)
                return data
            except FileNotFoundError:
                raise DataError(f"there is no {name} in {self.url}") from None
            except PermissionError as error:
                raise DataError(f"may not read {name} in {self.url}: {error}") from None
            # Each store has exceptions of its own; whatever it was, it may pass.
            except Exception as error:
                if pause is None or self.local is not None:
                    raise DataError(f"cannot read {name} in {self.url}: {type(error).__name__}: {error}") from error
                self._sleep(pause)
        raise AssertionError("the last failure is raised")
