"""Speed of data: preparing it, reading it, and how long a trainer waits for it.

    python benchmarks/data.py            # prints the tables and writes benchmarks/data.log

Preparing is compared with the encoder alone on the same texts, reading with a plain copy of as many tokens, both in the
same run and in CPU seconds. The trainer is the demo model's. Its store is made slow by a sleep in each batch, half as
long as a step of the same run, as reading over a network would be; it trains with and without a feed on the same
samples, in wall seconds.
Exit status 1 if with a feed it waits for more than 1 % of its time, the first batch apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import fsspec
import numpy as np

from swarm.config import NodeConfig, RunConfig
from swarm.data.batch import Batch
from swarm.data.documents import Inputs
from swarm.data.embedded import load_embedded
from swarm.data.feed import Feed
from swarm.data.mix import parse_mix
from swarm.data.open import open_reader
from swarm.data.prepare import prepare
from swarm.data.reader import Reader
from swarm.data.tokenizer import ByteTokenizer, Tokenizer, decode, load_tokenizer
from swarm.model.sizes import model_config
from swarm.train.build import step_config
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.step_config import LocalConfig
from swarm.train.trainer import InnerTrainer, TrainResult

BAR = 0.01
LOG = Path(__file__).with_suffix(".log")
WORDS = 200
RUN = RunConfig(data="mine", model="1b", sequence_length=8192)
Say = Callable[[str], None]


def corpus_of(copies: int) -> list[str]:
    """The embedded text in documents, so many times over, each time a little different."""
    source = load_embedded().train
    words = decode(source.read(0, source.count).astype(np.uint8)).split(" ")
    documents = [" ".join(words[start : start + WORDS]) for start in range(0, len(words), WORDS)]
    return [f"{copy} {document}" for copy in range(copies) for document in documents]


def trained_tokenizer(path: Path, corpus: Sequence[str]) -> Tokenizer:
    """Byte-level BPE, as large models use; of at most 32,000 tokens."""
    from tokenizers import Tokenizer as Encoder
    from tokenizers import models, pre_tokenizers, trainers

    encoder = Encoder(models.BPE())
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=32_000, special_tokens=["<|end_of_text|>"], show_progress=False)
    encoder.train_from_iterator(corpus, trainer)
    encoder.save(str(path))
    return load_tokenizer(str(path))


def preparing(folder: Path, copies: int, say: Say) -> None:
    """From JSONL to shards on disk; the last one stays in `folder` as `mine`."""
    corpus = corpus_of(copies)
    source = folder / "corpus.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in corpus))
    megabytes = sum(len(text.encode()) for text in corpus) / 1e6
    say(f"{f'preparing {megabytes:.0f} MB of text':<40}{'MB/s':>8}   {'of the encoder alone':>20}")
    for tokenizer in (ByteTokenizer(), trained_tokenizer(folder / "tokenizer.json", corpus[: len(corpus) // copies])):
        name = "bytes" if isinstance(tokenizer, ByteTokenizer) else f"BPE, {tokenizer.vocabulary:,} tokens"
        target = folder / ("bytes" if name == "bytes" else "mine")
        alone = seconds_of(partial(encode_in_parts, tokenizer, corpus))
        whole = seconds_of(partial(prepare, target, Inputs((str(source),)), tokenizer, shard_tokens=1 << 22))
        say(f"{name:<40}{megabytes / whole:>8.1f}   {alone / whole:>20.2f}")


def encode_in_parts(tokenizer: Tokenizer, corpus: Sequence[str]) -> None:
    for start in range(0, len(corpus), 5000):
        tokenizer.encode_all(corpus[start : start + 5000])


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds of all threads: others' work on the machine counts less."""
    began = time.process_time()
    work()
    return time.process_time() - began


def reading(folder: Path, batches: int, say: Say) -> None:
    """Batches of 16 samples of 8,192 tokens: mapped, and through the cache, which each block enters once."""
    url = f"memory://{folder}/mine"
    fs, root = fsspec.core.url_to_fs(url)
    for path in (folder / "mine").iterdir():
        fs.pipe_file(f"{root}/{path.name}", path.read_bytes())
    elsewhere = NodeConfig(data_dir=url.removesuffix("/mine"), data_cache=folder / "cache")
    readers = {
        "mapped": open_reader(RUN, NodeConfig(data_dir=str(folder))),
        "through the cache, at first": open_reader(RUN, elsewhere),
        "through the cache, then": open_reader(RUN, elsewhere),
    }
    tokens = 16 * RUN.sequence_length
    source_N, out_N = np.ones(tokens, np.int64), np.empty(tokens, np.int64)
    np.copyto(out_N, source_N)  # touch the memory
    copy = seconds_of(lambda: [np.copyto(out_N, source_N) for _ in range(2 * batches)])
    say(f"{'reading batches of 16 x 8,192 tokens':<40}{'ms':>8}   {'copies of it':>20}")
    for name, reader in readers.items():
        seconds = seconds_of(lambda reader=reader: read_all(reader, batches))  # type: ignore[misc]
        say(f"{name:<40}{seconds / batches * 1e3:>8.1f}   {seconds / copy:>20.1f}")


def read_all(reader: Reader, batches: int) -> None:
    for first in range(0, 16 * batches, 16):
        reader.batch(range(first, first + 16))


class SlowReader(Reader):
    """A reader whose store takes its time."""

    seconds = 0.0

    def batch(self, indices: Sequence[int]) -> Batch:
        time.sleep(self.seconds)
        return super().batch(indices)


def trained(steps: int, seconds: float, fed: bool) -> TrainResult:
    """So many steps of the demo model, each batch after so many seconds."""
    run = RunConfig(batch_size=16)
    reader = SlowReader({"embedded": load_embedded()}, parse_mix("embedded"), run.sequence_length, run.seed)
    with LocalGroup() as group:
        rank = RankTrainer(model_config(run.model), step_config(run), reader, group, LocalConfig(threads=1))
        if not fed:
            rank.feed = Feed(reader.batch, depth=0)
        trainer, samples = InnerTrainer(rank), itertools.count()
        trainer.load_flat(trainer.initial(run.seed))
        trainer.train(samples, 3)  # warm
        reader.seconds = seconds
        result = trainer.train(samples, steps)
        rank.feed.close()
        return result


def waiting(steps: int, say: Say) -> float:
    """Share of its time that a trainer with a feed waits for data, the first batch apart."""
    plain = trained(steps, 0.0, fed=True)
    slow = plain.seconds / steps / 2
    say(f"{f'{steps} steps of {plain.seconds / steps * 1e3:.0f} ms':<40}{'s':>8}   {'of it for data':>20}")
    unfed, fed = trained(steps, slow, fed=False), trained(steps, slow, fed=True)
    rows = {"data in memory": plain, f"{slow * 1e3:.0f} ms a batch, no feed": unfed, "the same with a feed": fed}
    for name, result in rows.items():
        say(f"{name:<40}{result.seconds:>8.2f}   {result.data_seconds / result.seconds:>20.2%}")
    return max(0.0, fed.data_seconds - slow) / fed.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=6, help="how often the embedded text is prepared")
    parser.add_argument("--batches", type=int, default=50, help="batches to read")
    parser.add_argument("--steps", type=int, default=40, help="steps to train")
    arguments = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line)

    say(f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.0f}")
    say("")
    with tempfile.TemporaryDirectory() as name:
        preparing(Path(name), arguments.copies, say)
        say("")
        reading(Path(name), arguments.batches, say)
        say("")
    share = waiting(arguments.steps, say)
    met = share <= BAR
    say(f"\nwaits with a feed, the first batch apart: {share:.2%}, bar {BAR:.0%}: {'met' if met else 'MISSED'}")
    LOG.write_text("\n".join(lines) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
