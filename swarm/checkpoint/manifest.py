"""What a checkpoint says of itself: `manifest.json`, written last. Without it there is no checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.digest import digest
from swarm.checkpoint.flat_file import BadFile, Written

MANIFEST = "manifest.json"
THETA = "theta.safetensors"
MOMENTUM = "momentum.safetensors"
RECORDS = "records"
INNER = "inner.safetensors"
"""Absent where the node had not trained yet, or was told not to keep it."""
MAX_MANIFEST_BYTES = 1 << 20

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
FileName = Annotated[str, Field(pattern=r"^(theta|momentum|inner)\.safetensors$|^records$")]
"""No other: a manifest may come from a store that strangers write to, and names nothing outside its folder."""
Scalar = str | int | float | bool


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class File(Model):
    bytes: Count
    blake3: Hex

    @property
    def written(self) -> Written:
        return Written(self.bytes, self.blake3)


class Inner(Model):
    """The node's own optimizer: which vectors are kept of it, and how many steps it has taken."""

    vectors: tuple[str, ...]
    steps: Count

    model_config = ConfigDict(frozen=True, strict=False, extra="forbid")  # JSON has no tuples


class Manifest(Model):
    """One checkpoint: the state that all members share after `round`, and what this node alone knows."""

    format: Literal[1] = 1
    fingerprint: Hex
    run: dict[str, Scalar]
    """All that the fingerprint is made of (swarm.config.run_fields)."""
    round: Annotated[int, Field(ge=-1, le=1 << 40)]
    head: Hex
    """Hash of the record of `round`; it stands for the whole history, which is in the file `records`."""
    tokens_total: Count
    """Tokens that this lineage has committed."""
    state_root: Hex
    """Root of the state's chunk digests, as members compare it."""
    parameters: Count
    peer: str
    """Who wrote it."""
    saved_at: float
    """Seconds since 1970 by the writer's clock: to be shown, never compared."""
    inner: Inner | None
    files: dict[FileName, File]
    seal: Hex | Literal[""] = ""
    """BLAKE3 of all the above; `sealed` fills it in."""

    def sealed(self) -> Manifest:
        return self.model_copy(update={"seal": self._digest()})

    def is_whole(self) -> bool:
        return self.seal == self._digest()

    def _digest(self) -> str:
        """Of the canonical form (sorted keys, no spaces, shortest floats), so that other software gets the same."""
        fields = self.model_dump(mode="json", exclude={"seal"})
        return digest(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hex()

    @property
    def weight(self) -> tuple[int, int]:
        """Of two checkpoints of a run, the greater is the one to go on from: the swarm's own rule for lineages."""
        return self.tokens_total, self.round

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


def read_manifest(folder: Path) -> Manifest:
    """Raises BadFile if there is none, or one that cannot be understood."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            return parse_manifest(file.read(MAX_MANIFEST_BYTES + 1))
    except OSError as error:
        raise BadFile(f"it has no {MANIFEST} ({error.strerror}): it was never finished") from None


def parse_manifest(data: bytes) -> Manifest:
    """Raises BadFile."""
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadFile(f"{MANIFEST}: {_where(first)}{first['msg']}") from None
    if not manifest.is_whole():
        raise BadFile(f"{MANIFEST} is damaged: its seal does not match")
    for name in (THETA, MOMENTUM, RECORDS, *([INNER] if manifest.inner else [])):
        if name not in manifest.files:
            raise BadFile(f"{MANIFEST} does not list {name}")
    return manifest


def _where(details: Any) -> str:
    place = ".".join(str(part) for part in details["loc"])
    return f"{place}: " if place else ""
