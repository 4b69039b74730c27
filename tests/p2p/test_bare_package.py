"""A package without its `__init__`, and with it after all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2p.bare_package import bare_package


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that is slow to import, with a small module in it."""
    (tmp_path / "big_package").mkdir()
    (tmp_path / "big_package" / "__init__.py").write_text("all_there = True\n")
    (tmp_path / "big_package" / "small.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("big_package", "big_package.small"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "big_package"


def test_a_module_can_be_had_without_the_rest(big: str) -> None:
    package = bare_package(big)
    from big_package.small import value  # type: ignore[import-not-found]

    assert value == 7
    assert not hasattr(package, "all_there")


def test_the_rest_can_follow(big: str) -> None:
    package = bare_package(big)
    assert package.__spec__ is not None
    assert package.__spec__.loader is not None
    package.__spec__.loader.exec_module(package)
    assert package.all_there


def test_what_is_imported_already_stays_as_it_is(big: str) -> None:
    import big_package  # type: ignore[import-not-found]

    assert bare_package(big) is big_package
    assert big_package.all_there


def test_a_package_that_is_not_installed() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        bare_package("no_such_package")
