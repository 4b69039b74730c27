from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.data import documents
from swarm.data.documents import Inputs, read_documents
from swarm.data.source import DataError


def read(*places: Path | str, **options: object) -> list[str]:
    return list(read_documents(Inputs(tuple(map(str, places)), **options)))  # type: ignore[arg-type]


class TestPlaces:
    def test_files_folders_and_patterns_are_read_in_their_order(self, tmp_path: Path) -> None:
        for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
        assert read(tmp_path / "b.txt", tmp_path / "a.txt") == ["b.txt", "a.txt"]
        assert read(tmp_path) == ["a.txt", "b.txt", "sub/c.txt"]
        assert read(tmp_path / "*.txt") == ["a.txt", "b.txt"]

    def test_addresses_are_read_like_paths(self) -> None:
        fs = fsspec.filesystem("memory")
        fs.pipe_file("/texts/a.txt", b"one")
        fs.pipe_file("/texts/b.txt.gz", gzip.compress(b"two"))
        assert read("memory://texts") == ["one", "two"]

    @pytest.mark.parametrize("place", ["nowhere.txt", "none/*.txt", "nowhere://x"])
    def test_what_is_not_there_is_named(self, place: str) -> None:
        with pytest.raises(DataError, match=r"cannot read (nowhere|none)"):
            read(place)

    def test_the_ending_says_what_a_file_is_unless_it_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n'))
        (tmp_path / "rows").write_text('{"text": "y"}\n')
        assert read(tmp_path / "a.jsonl.gz") == ["x"]
        assert read(tmp_path / "rows") == ['{"text": "y"}\n']
        assert read(tmp_path / "rows", format="jsonl") == ["y"]


class TestText:
    @given(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="#\r"), max_size=9), min_size=1, max_size=6)
    )
    def test_a_separator_cuts_wherever_it_stands(self, texts: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "_CHUNK_BYTES", 3)  # separators and characters fall across chunks
            fsspec.filesystem("memory").pipe_file("/separated.txt", "<##>".join(texts).encode())
            assert read("memory://separated.txt", separator="<##>") == texts

    def test_without_one_a_file_is_a_document(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("one\n\ntwo\n")
        assert read(tmp_path / "a.txt") == ["one\n\ntwo\n"]

    def test_what_is_not_text_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"ok \xff\xfe")
        with pytest.raises(DataError, match=r"a\.txt is not UTF-8 text"):
            read(tmp_path / "a.txt")


class TestJsonl:
    def test_a_row_is_a_document_and_a_missing_text_an_empty_one(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"body": "x\\n"}\n\n{"body": null, "id": 3}\n{"body": ""}')
        assert read(tmp_path / "a.jsonl", field="body") == ["x\n", "", ""]

    def test_halves_of_surrogate_pairs_become_the_replacement_character(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b \\ud83d\\ude00"}\n')
        assert read(tmp_path / "a.jsonl") == ["a�b 😀"]

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ('{"body": "x", "id": 1}', r"line 2: no field 'text'; it has body, id \(see --field\)"),
            ("[1]", "line 2: no field 'text'; it is no object"),
            ('{"text": 7}', "line 2: 'text' holds no text but int"),
            ('{"text": ', "line 2: not JSON"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path: Path, line: str, complaint: str) -> None:
        (tmp_path / "a.jsonl").write_text(json.dumps({"text": "fine"}) + "\n" + line + "\n")
        with pytest.raises(DataError, match=rf"a\.jsonl, {complaint}"):
            read(tmp_path / "a.jsonl")

    def test_a_torn_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000)[:-20])
        with pytest.raises(DataError, match=r"cannot read .*a\.jsonl\.gz"):
            read(tmp_path / "a.jsonl.gz")


class TestParquet:
    def test_a_row_is_a_document(self, tmp_path: Path) -> None:
        table = pyarrow.table({"id": range(3000), "text": [None if n == 5 else f"text {n}" for n in range(3000)]})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
        assert read(tmp_path / "a.parquet") == ["" if n == 5 else f"text {n}" for n in range(3000)]
        with pytest.raises(DataError, match=r"a\.parquet: no column 'body'; it has id, text"):
            read(tmp_path / "a.parquet", field="body")

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1 not really PAR1")
        with pytest.raises(DataError, match=r"cannot read .*a\.parquet"):
            read(tmp_path / "a.parquet")

    def test_a_missing_package_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        (tmp_path / "a.parquet").touch()
        with pytest.raises(DataError, match=r"pip install 'swarm-node\[parquet\]'"):
            read(tmp_path / "a.parquet")


class TestHuggingFace:
    def test_rows_are_streamed_from_the_split_and_subset_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The package is large and optional, so its place is taken by a stand-in with the one function that is used."""
        asked: list[object] = []

        def load_dataset(*arguments: object, **options: object) -> list[dict[str, str]]:
            asked.append((arguments, options))
            return [{"body": "one"}, {"body": "two"}]

        module = ModuleType("datasets")
        module.load_dataset = load_dataset  # type: ignore[attr-defined]
        module.exceptions = SimpleNamespace(DatasetsError=RuntimeError)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", module)
        assert read("hf:owner/name", field="body", split="test", subset="en") == ["one", "two"]
        assert asked == [(("owner/name", "en"), {"split": "test", "streaming": True})]

    def test_a_missing_package_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(DataError, match=r"pip install 'swarm-node\[datasets\]'"):
            read("hf:owner/name")
