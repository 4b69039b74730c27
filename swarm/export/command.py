"""`swarm export`: a checkpoint as a folder that `transformers` loads."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from p2p.errors import SwarmError
from swarm.checkpoint.source import Parameters, read_parameters
from swarm.data.tokenizer import EOS, VOCABULARY
from swarm.export.tokenizer import copy_tokenizer, write_byte_tokenizer
from swarm.export.write import SHARD_BYTES, Precision, write_model


class NoRoom(SwarmError):
    """The export cannot go where it was told to."""


def export(
    source: Path,
    out: Path,
    *,
    precision: Precision = "float32",
    tokenizer: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write `out`, which must not exist yet; it appears when it is whole. Raises SwarmError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NoRoom(f"{out} is there already: give a new folder to --out, or remove it")
    found = read_parameters(source, _warn)
    _say(f"checkpoint of round {found.manifest.round}: {found.layout.count:,} parameters, {found.path}")
    partial = out.with_name(f".partial-{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write(found, partial, precision, tokenizer, shard_bytes)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise NoRoom(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _say(f"written to {out}: transformers.AutoModelForCausalLM.from_pretrained({str(out)!r})")


def _write(found: Parameters, folder: Path, precision: Precision, tokenizer: Path | None, shard_bytes: int) -> None:
    bytes_are_tokens = tokenizer is None and found.model.vocab == VOCABULARY
    names = write_model(
        folder,
        found.theta_P,
        found.layout,
        found.model,
        precision=precision,
        context=found.context,
        eos=EOS if bytes_are_tokens else None,
        shard_bytes=shard_bytes,
    )
    for name in names:
        _say(f"  {name}: {(folder / name).stat().st_size / 1e6:,.1f} MB")
    if tokenizer is not None:
        copy_tokenizer(tokenizer, folder)
    elif bytes_are_tokens:
        write_byte_tokenizer(folder, found.context)
    else:
        _say("  no tokenizer: give the one that the data was prepared with to --tokenizer")


def _warn(path: Path, reason: str) -> None:
    sys.stderr.write(f"swarm: checkpoint {path} passed over: {reason}\n")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
