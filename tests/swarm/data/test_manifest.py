from __future__ import annotations

from pathlib import Path

import pytest

from swarm.data.manifest import DTYPES, MANIFEST, dtype_for, parse_manifest
from swarm.data.source import DataError
from tests.swarm.data.prepared import prepared


def test_the_digest_is_of_what_is_said_not_of_how(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "data")
    text = (tmp_path / "data" / MANIFEST).read_bytes()
    again = parse_manifest(b" ".join(text.split()), "here")
    assert again == manifest
    assert again.digest == manifest.digest
    assert len(bytes.fromhex(manifest.digest)) == 32


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"dtype": "u8"', b'"dtype": "u16"'),
        (b'"eos": 255', b'"eos": 254'),
        (b'"tokens": ', b'"tokens": 1'),
        (b'"tokens_digest": "', b'"tokens_digest": "' + b"0" * 64 + b'", "ends_digest": "'),
    ],
)
def test_whatever_changes_the_data_changes_the_digest(tmp_path: Path, before: bytes, after: bytes) -> None:
    manifest = prepared(tmp_path / "data")
    text = (tmp_path / "data" / MANIFEST).read_bytes()
    assert before in text
    assert parse_manifest(text.replace(before, after, 1), "here").digest != manifest.digest


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (b"swarm-data-1", b"swarm-data-9", "format: "),
        (b'"dtype": "u8"', b'"dtype": "f4"', "dtype: "),
        (b"train-00000", b"../train-00000", "train.shards.0.name: "),
        (b'"tokens": ', b'"tokens": -', "train.shards.0.tokens: "),
        (b"{", b"[", "JSON"),
        (b'"train"', b'"extra": 1, "train"', "extra: "),
    ],
)
def test_a_manifest_of_another_kind_is_refused_with_its_place(
    tmp_path: Path, before: bytes, after: bytes, complaint: str
) -> None:
    prepared(tmp_path / "data")
    text = (tmp_path / "data" / MANIFEST).read_bytes().replace(before, after, 1)
    with pytest.raises(DataError, match=rf"^here is no manifest of this version.*{complaint}.*prepare"):
        parse_manifest(text, "here")


@pytest.mark.parametrize(
    ("vocabulary", "dtype"), [(1, "u8"), (256, "u8"), (257, "u16"), (65536, "u16"), (65537, "u32")]
)
def test_tokens_take_no_more_room_than_they_need(vocabulary: int, dtype: str) -> None:
    assert dtype_for(vocabulary) == dtype
    assert vocabulary - 1 <= 2 ** (8 * DTYPES[dtype_for(vocabulary)].itemsize) - 1
