"""What a folder of prepared data says about itself: manifest.json.

Its digest is the identity of the data: it covers the digest of every shard, of the tokenizer, and all counts.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.digest import digest
from swarm.data.source import DataError

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
BLOCK_BYTES = 1 << 20
"""Bytes of a shard that one digest covers: what is read of a shard that lies elsewhere is read and checked in these."""

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 32)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DType = Literal["u8", "u16", "u32"]
DTYPES: dict[DType, np.dtype[np.unsignedinteger[Any]]] = {
    "u8": np.dtype("u1"),
    "u16": np.dtype("<u2"),
    "u32": np.dtype("<u4"),
}


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Shard(_Table):
    """NAME.tokens: tokens, little endian, nothing else. NAME.ends: for each document the number of tokens up to its end
    (u64, little endian). NAME.blocks: a BLAKE3 digest (32 bytes) for each BLOCK_BYTES of NAME.tokens."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z-]*-\d{5,}$")]
    tokens: Annotated[Count, Field(ge=1)]
    documents: Annotated[Count, Field(ge=1)]
    tokens_digest: Hex
    """ops.digest.root of the digests in NAME.blocks."""
    ends_digest: Hex
    """BLAKE3 of NAME.ends."""

    @property
    def tokens_file(self) -> str:
        return f"{self.name}.tokens"

    @property
    def ends_file(self) -> str:
        return f"{self.name}.ends"

    @property
    def blocks_file(self) -> str:
        return f"{self.name}.blocks"


class Split(_Table):
    shards: tuple[Shard, ...]

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)


class TokenizerInfo(_Table):
    name: Annotated[str, Field(max_length=256)]
    """`bytes`, or where it was taken from; the one remark here that is not in the digest."""
    digest: Annotated[str, Field(max_length=64)]
    """BLAKE3 of tokenizer.json, in hex; `bytes` for the built-in one."""
    vocabulary: Annotated[int, Field(ge=1, le=1 << 32)]
    bos: TokenId | None
    """What every document begins with, if anything."""
    eos: TokenId
    """What every document ends with, and what occurs nowhere else."""


class Manifest(_Table):
    format: Literal["swarm-data-1"] = "swarm-data-1"
    dtype: DType
    tokenizer: TokenizerInfo
    train: Split
    held_out: Split

    @property
    def digest(self) -> str:
        """BLAKE3, in hex, of the canonical JSON (sorted keys, no spaces), the tokenizer's name left out."""
        said = self.model_dump(exclude={"tokenizer": {"name"}})
        return digest(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hex()

    def to_json(self) -> str:
        return json.dumps(self.model_dump(), indent=1) + "\n"


def parse_manifest(text: bytes, place: str) -> Manifest:
    """Raises DataError, which names the place."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{place} is no manifest of this version ({where}: {first['msg']}): run `swarm data prepare` again"
        ) from None


def dtype_for(vocabulary: int) -> DType:
    """The smallest that holds every token."""
    return "u8" if vocabulary <= 1 << 8 else "u16" if vocabulary <= 1 << 16 else "u32"
