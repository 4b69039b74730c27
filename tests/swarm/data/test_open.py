from __future__ import annotations

from pathlib import Path

import pytest

from swarm.config import NodeConfig, RunConfig, run_fields, run_fingerprint
from swarm.data.embedded import load_embedded
from swarm.data.open import data_digests, open_reader
from swarm.data.source import DataError
from swarm.data.tokenizer import load_tokenizer
from tests.swarm.data.prepared import TEXTS, elsewhere, prepared, trained_tokenizer

RUN = RunConfig(data="mine:3, embedded:1", sequence_length=32)


def test_prepared_data_and_the_embedded_text_mix(tmp_path: Path) -> None:
    prepared(tmp_path / "mine")
    whole = b"".join(path.read_bytes() for path in sorted((tmp_path / "mine").glob("train-*.tokens")))
    batch = open_reader(RUN, NodeConfig(data_dir=str(tmp_path))).batch(range(40))
    texts = [bytes(row.tolist()) for row in batch.inputs_BL.astype("u1")]
    assert sum(text in whole for text in texts) == 30


def test_data_that_lies_elsewhere_gives_the_same_samples_and_is_the_same_run(tmp_path: Path) -> None:
    prepared(tmp_path / "mine")
    url = elsewhere(tmp_path / "mine").removesuffix("/mine")
    here = open_reader(RUN, NodeConfig(data_dir=str(tmp_path)))
    there = open_reader(RUN, NodeConfig(data_dir=url, data_cache=tmp_path / "cache"))
    assert (here.batch(range(100)).inputs_BL == there.batch(range(100)).inputs_BL).all()
    assert list((tmp_path / "cache").iterdir())
    assert run_fingerprint(RUN, str(tmp_path)) == run_fingerprint(RUN, url)


def test_the_fingerprint_covers_every_token_of_every_source_and_the_weights(tmp_path: Path) -> None:
    mine = prepared(tmp_path / "a" / "mine")
    assert data_digests(RUN.data, str(tmp_path / "a")) == {"embedded": load_embedded().digest, "mine": mine.digest}
    prepared(tmp_path / "b" / "mine", [*TEXTS[:-1], "another text"])
    ours, theirs = run_fields(RUN, str(tmp_path / "a")), run_fields(RUN, str(tmp_path / "b"))
    assert [name for name in ours if ours[name] != theirs[name]] == ["data.digest.mine"]
    heavier = run_fields(RUN.model_copy(update={"data": "embedded, mine:4"}), str(tmp_path / "a"))
    assert [name for name in ours if ours[name] != heavier[name]] == ["data.weight.mine from 0"]


def test_a_run_whose_data_is_not_named_or_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trains on mine: set data_dir in \[node\]"):
        open_reader(RUN)
    with pytest.raises(DataError, match=r"no manifest\.json in .*/mine"):
        open_reader(RUN, NodeConfig(data_dir=str(tmp_path)))


def test_a_vocabulary_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    prepared(tmp_path / "mine", tokenizer=load_tokenizer(str(trained_tokenizer(tmp_path / "tokenizer.json"))))
    with pytest.raises(DataError, match=r"vocabulary of \d+ tokens, the model demo one of 256: choose another model"):
        open_reader(RunConfig(data="mine"), NodeConfig(data_dir=str(tmp_path)))
    open_reader(RunConfig(data="mine", model="1b"), NodeConfig(data_dir=str(tmp_path)))
