from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.data.documents import Inputs
from swarm.data.folder import Folder
from swarm.data.manifest import MANIFEST, Manifest
from swarm.data.mix import parse_mix
from swarm.data.prepare import LOCK, Counts, prepare
from swarm.data.reader import Reader
from swarm.data.shards import open_shards
from swarm.data.source import DataError, read_round
from swarm.data.tokenizer import EOS, ByteTokenizer, load_tokenizer
from swarm.data.verify import verify
from tests.swarm.data.prepared import TEXTS, prepared, trained_tokenizer, write_jsonl


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=60) | st.just("long " * 400), min_size=1, max_size=15),
    st.integers(1, 200),
    st.integers(1, 500),
)
def test_tokens_in_are_tokens_out(texts: list[str], length: int, shard_tokens: int) -> None:
    """From rows of JSONL through shards, mix and packing to batches: each byte, and one end for each document."""
    expected = Counter("".join(texts).encode()) + Counter({EOS: sum(map(bool, texts))})
    with tempfile.TemporaryDirectory() as name:
        if not any(texts):
            with pytest.raises(DataError, match="nothing is left to train on"):
                prepared(Path(name) / "data", texts, held_out=0.0)
            return
        manifest = prepared(Path(name) / "data", texts, held_out=0.0, shard_tokens=shard_tokens)
        assert manifest.train.tokens == expected.total()
        source = open_shards("data", Folder(f"{name}/data"), None)
        if source.train.count < length:
            return
        reader = Reader({"data": source}, parse_mix("data"), length, seed=0)
        samples = -(-source.train.count // length)
        inputs_BL = reader.batch(range(samples)).inputs_BL
        twice_N = read_round(source.train, 0, samples * length)[source.train.count :]
        assert Counter(inputs_BL.ravel().tolist()) == expected + Counter(twice_N.tolist())


@pytest.mark.parametrize("corpus", ["docs/*.md", "swarm/**/*.py", "tests/**/*.py"])
def test_a_corpus_goes_through_whole(corpus: str, tmp_path: Path) -> None:
    """Prose, code and tests of this project: read in order, packed samples hold every token once."""
    texts = [path.read_text() for path in sorted(Path(__file__).parents[3].glob(corpus)) if path.stat().st_size]
    expected = Counter("".join(texts).encode()) + Counter({EOS: len(texts)})
    manifest = prepared(tmp_path / "data", texts, held_out=0.0, shard_tokens=1 << 16)
    assert manifest.train.tokens == expected.total()
    source, length = open_shards("data", Folder(str(tmp_path / "data")), None), 512
    samples = -(-source.train.count // length)
    inputs_BL = Reader({"data": source}, parse_mix("data"), length, seed=0).batch(range(samples)).inputs_BL
    twice_N = read_round(source.train, 0, samples * length)[source.train.count :]
    assert Counter(inputs_BL.ravel().tolist()) == expected + Counter(twice_N.tolist())


class TestOutcome:
    def test_the_same_inputs_give_the_same_bytes_wherever_and_however_they_are_cut(self, tmp_path: Path) -> None:
        one = prepared(tmp_path / "one")
        half = [write_jsonl(tmp_path / f"{part}.jsonl", TEXTS[part * 150 :][:150]) for part in (0, 1)]
        inputs = Inputs(tuple(map(str, half)))
        two, _ = prepare(tmp_path / "two", inputs, ByteTokenizer(), held_out=0.1, shard_tokens=5000)
        assert one.digest == two.digest
        assert files(tmp_path / "one") == files(tmp_path / "two")

    def test_a_share_of_the_documents_is_held_out_and_copies_stay_together(self, tmp_path: Path) -> None:
        manifest = prepared(tmp_path / "data", [*TEXTS, *TEXTS], held_out=0.2)
        source = open_shards("data", Folder(str(tmp_path / "data")), None)
        train, held_out = (
            set(bytes(tokens.read(0, tokens.count)).split(b"\xff")[:-1]) for tokens in (source.train, source.held_out)
        )
        assert not train & held_out
        assert manifest.train.documents + manifest.held_out.documents == 2 * len(TEXTS)
        assert 0.12 < manifest.held_out.documents / (2 * len(TEXTS)) < 0.28

    def test_documents_begin_and_end_with_the_tokens_of_a_tokenizer(self, tmp_path: Path) -> None:
        file = trained_tokenizer(tmp_path / "tokenizer.json")
        tokenizer = load_tokenizer(str(file), bos="<|begin_of_text|>")
        manifest = prepared(tmp_path / "data", tokenizer=tokenizer, held_out=0.0)
        assert manifest.dtype == "u16"
        assert (tmp_path / "data" / "tokenizer.json").read_bytes() == file.read_bytes()
        source = open_shards("data", Folder(str(tmp_path / "data")), None)
        tokens_N = source.train.read(0, source.train.count)
        (ends,) = np.nonzero(tokens_N == tokenizer.eos)
        assert ends.size == len(TEXTS)
        assert (tokens_N[np.append(0, ends[:-1] + 1)] == tokenizer.bos).all()
        first_N = tokens_N[1 : ends[0]]
        assert tokenizer.decode(first_N) == TEXTS[0]

    def test_it_does_not_matter_where_the_tokenizer_lay(self, tmp_path: Path) -> None:
        first = trained_tokenizer(tmp_path / "tokenizer.json")
        second = tmp_path / "copy.json"
        second.write_bytes(first.read_bytes())
        digests = {
            prepared(tmp_path / name, tokenizer=load_tokenizer(str(file))).digest
            for name, file in (("one", first), ("two", second))
        }
        assert len(digests) == 1

    def test_documents_without_text_are_counted_and_leave_nothing(self, tmp_path: Path) -> None:
        source = write_jsonl(tmp_path / "a.jsonl", ["", "x", ""])
        manifest, counts = prepare(tmp_path / "data", Inputs((str(source),)), ByteTokenizer(), held_out=0.0)
        assert (manifest.train.documents, counts.documents, counts.empty) == (1, 3, 2)

    def test_progress_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("swarm.data.prepare._PROGRESS_SECONDS", -1.0)
        monkeypatch.setattr("swarm.data.prepare._BATCH_CHARACTERS", 500)
        source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
        seen: list[int] = []

        def progress(counts: Counts) -> None:
            seen.append(counts.tokens)

        prepare(tmp_path / "data", Inputs((str(source),)), ByteTokenizer(), progress=progress, held_out=0.1)
        assert len(seen) > 5
        assert seen == sorted(set(seen))


class TestAllOrNothing:
    def test_a_mistake_leaves_nothing_behind(self, tmp_path: Path) -> None:
        source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
        with source.open("a") as file:
            file.write("{broken\n")
        with pytest.raises(DataError, match="line 301"):
            prepare(tmp_path / "data", Inputs((str(source),)), ByteTokenizer())
        assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]

    def test_a_killed_preparation_is_not_data_and_is_no_hindrance(self, tmp_path: Path) -> None:
        expected = prepared(tmp_path / "expected")
        program = (
            "import os, signal; from pathlib import Path; from tests.swarm.data.prepared import prepared;"
            "from swarm.data import prepare; write = prepare.write_synced;"
            "prepare.write_synced = lambda *a: os.kill(os.getpid(), signal.SIGKILL);"
            f"prepared(Path({str(tmp_path / 'data')!r}))"
        )
        child = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.getcwd()})
        assert child.returncode == -signal.SIGKILL
        assert not (tmp_path / "data").exists()
        assert not (tmp_path / "data.partial" / MANIFEST).exists()
        assert list((tmp_path / "data.partial").glob("*.tokens"))
        assert prepared(tmp_path / "data").digest == expected.digest
        assert list(verify(Folder(str(tmp_path / "data")))) == []
        assert not (tmp_path / "data.partial").exists()

    def test_two_preparations_of_one_folder_do_not_mix(self, tmp_path: Path) -> None:
        (tmp_path / "data.partial").mkdir()
        with (tmp_path / "data.partial" / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(DataError, match=r"another preparation writes .*data\.partial"):
                prepared(tmp_path / "data")
        prepared(tmp_path / "data")

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
        for folder in (source, source / "data"):
            with pytest.raises(DataError, match=rf"{folder}"):
                prepare(folder, Inputs((str(source),)), ByteTokenizer())

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        prepared(tmp_path / "data")
        with pytest.raises(DataError, match="is not empty"):
            prepared(tmp_path / "data")


class TestMistakes:
    def test_nothing_held_out_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"none of the 1 documents was held out.*--separator"):
            prepared(tmp_path / "data", ["only one"], held_out=0.001)

    def test_nothing_left_to_train_on_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nothing is left to train on"):
            prepared(tmp_path / "data", ["", ""])

    def test_a_text_that_holds_the_end_is_named(self, tmp_path: Path) -> None:
        file = trained_tokenizer(tmp_path / "tokenizer.json")
        with pytest.raises(DataError, match=r"This is text.*holds the token \d+, which is to end documents"):
            prepared(tmp_path / "data", tokenizer=load_tokenizer(str(file), eos="."))


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Eight times the documents, the same peak to within what one batch takes."""
    program = (
        "import resource, sys; from pathlib import Path; from swarm.data.documents import Inputs;"
        "from swarm.data.prepare import prepare; from swarm.data.tokenizer import ByteTokenizer;"
        "prepare(Path(sys.argv[1]), Inputs((sys.argv[2],)), ByteTokenizer(), shard_tokens=1 << 20);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak_kib(copies: int) -> int:
        source = write_jsonl(tmp_path / f"{copies}.jsonl", (f"{n} " * 500 for n in range(copies * 2000)))
        out = tmp_path / f"out{copies}"
        printed = subprocess.run(
            [sys.executable, "-c", program, out, source], capture_output=True, text=True, check=True
        )
        return int(printed.stdout)

    assert peak_kib(16) < peak_kib(4) + 24 * 1024


def test_a_manifest_says_what_is_there(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "data")
    assert Manifest.model_validate_json((tmp_path / "data" / MANIFEST).read_bytes()) == manifest
