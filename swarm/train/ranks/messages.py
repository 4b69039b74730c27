"""What rank 0 tells the other ranks of its group, and what they answer: one answer for each command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
Range: TypeAlias = tuple[Count, Count]
"""Half-open range of global sample indices."""
Names: TypeAlias = Annotated[tuple[str, ...], Field(max_length=4)]

MAX_BYTES = 1 << 17


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Setup(_Message):
    """The first command. With it come the descriptors of the shared memory."""

    kind: Literal["setup"] = "setup"
    rank: Annotated[int, Field(ge=1)]
    world: Annotated[int, Field(ge=2)]
    config: Annotated[str, Field(max_length=MAX_BYTES // 2)]
    """The node's whole configuration as JSON."""
    values: Annotated[int, Field(ge=1)]
    """Length of the flat vector."""


class Form(_Message):
    """All are ready: join the process group and build the model."""

    kind: Literal["form"] = "form"


class Load(_Message):
    """Set the parameters from a shared vector."""

    kind: Literal["load"] = "load"
    vector: Count


class Store(_Message):
    """Write the parameters into a shared vector."""

    kind: Literal["store"] = "store"
    vector: Count


class Swap(_Message):
    """Exchange the parameters with a shared vector."""

    kind: Literal["swap"] = "swap"
    vector: Count


class Shift(_Message):
    """Carry what the parameters have moved from one shared vector, times `weight`, over to another."""

    kind: Literal["shift"] = "shift"
    from_vector: Count
    to_vector: Count
    weight: Annotated[float, Field(ge=0, le=1)]
    span: tuple[Count, Count]
    """Of the vector."""


class Step(_Message):
    """Take an inner step; the samples are this rank's share, and may be none."""

    kind: Literal["step"] = "step"
    samples: tuple[Range, ...]
    ahead: Annotated[tuple[tuple[Range, ...], ...], Field(max_length=16)]
    """Its shares of the next steps, to be made meanwhile."""
    of: Annotated[int, Field(ge=1)]
    """Samples in the whole batch."""
    micro_batches: Annotated[int, Field(ge=1)]
    at: Count
    """Which inner step of the run this is."""


class Evaluate(_Message):
    """Add this rank's part to the loss of the held-out windows [start, stop)."""

    kind: Literal["evaluate"] = "evaluate"
    start: Count
    stop: Count


class StoreOptimizer(_Message):
    """Write the optimizer's vectors into shared memory, a descriptor for each."""

    kind: Literal["store-optimizer"] = "store-optimizer"
    names: Names


class LoadOptimizer(_Message):
    """Set them from shared memory, as they were after so many steps."""

    kind: Literal["load-optimizer"] = "load-optimizer"
    names: Names
    steps: Count


class Joined(_Message):
    """What a rank that a launcher has started says first."""

    kind: Literal["joined"] = "joined"
    rank: Annotated[int, Field(ge=1)]


class Done(_Message):
    kind: Literal["done"] = "done"


class Failed(_Message):
    """The last thing a rank says: it ends."""

    kind: Literal["failed"] = "failed"
    reason: Annotated[str, Field(max_length=2000)]


Command: TypeAlias = Setup | Form | Load | Store | Swap | Shift | Step | Evaluate | StoreOptimizer | LoadOptimizer
Answer: TypeAlias = Joined | Done | Failed
Message: TypeAlias = Command | Answer

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    return _ADAPTER.dump_json(message)


def decode(data: bytes) -> Message:
    """Inverse of `encode`. Raises ValueError (pydantic.ValidationError) for anything else."""
    return _ADAPTER.validate_json(data)


def ranges_of(indices: Iterable[int]) -> tuple[Range, ...]:
    """The same indices in the same order, runs of neighbours written as one range."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index:
            ranges[-1][1] += 1
        else:
            ranges.append([index, index + 1])
    return tuple((start, stop) for start, stop in ranges)


def indices_of(ranges: Iterable[Range]) -> list[int]:
    """Inverse of `ranges_of`."""
    return [index for start, stop in ranges for index in range(start, stop)]
