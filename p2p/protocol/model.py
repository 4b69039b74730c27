"""The wire form that all messages share: strictly validated models, msgpack arrays, and the bounds of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from operator import attrgetter
from typing import Annotated, Any, Self, get_args, get_origin

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_MESSAGE_BYTES = 1 << 20
MAX_MEMBERS = 4096
MAX_RANGES = 65536
MAX_SEGMENTS = 2 * MAX_MEMBERS
MAX_PIECES = 1 << 20
MAX_FRAGMENTS = 32

PeerId = Annotated[str, Field(min_length=40, max_length=64)]
"""base58 libp2p peer id of an Ed25519 key."""
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
"""BLAKE3, 32 bytes."""
OptionalDigest = Annotated[bytes, Field(max_length=32)]
"""A digest, or empty bytes where there is none yet."""
Bitmap = Annotated[bytes, Field(max_length=MAX_MEMBERS // 8)]
"""A set of ranks (p2p.protocol.bitmap)."""
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
Tag = Annotated[int, Field(ge=0, lt=1 << 32)]
"""Tells things apart that are few at a time."""
Round = Annotated[int, Field(ge=-1, le=1 << 40)]
"""Number of a round; -1 is the state before the first record (genesis)."""
Reason = Annotated[str, Field(max_length=512)]
Range = tuple[Count, Count]
"""Half-open range of sample indices [start, stop)."""


class BadMessage(ValueError):
    """Bytes from a peer that are not a valid message; the text says why."""


class Model(BaseModel):
    """Base of everything that crosses the network: immutable, strict, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", ser_json_bytes="base64")

    def to_wire(self) -> list[Any]:
        """The fields as plain msgpack types, in declaration order."""
        return [_plain(getattr(self, name)) for name in type(self).model_fields]

    @classmethod
    def from_wire(cls, values: Any) -> Self:
        """Inverse of `to_wire`. Raises BadMessage."""
        try:
            return cls.model_validate(_named(cls, values))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadMessage(f"{cls.__name__}.{where}: {first['msg']}") from None


def pack(value: Any) -> bytes:
    """The msgpack bytes of models, by their `to_wire`, and of plain types that hold them."""
    return bytes(msgpack.packb(value, default=fields, use_bin_type=True))


def fields(model: Model) -> tuple[Any, ...]:
    """The fields as they are, in declaration order."""
    return _getter(type(model))(model)


@lru_cache(256)
def _getter(cls: type[Model]) -> Callable[[Model], tuple[Any, ...]]:
    names = list(cls.model_fields)
    if len(names) > 1:
        return attrgetter(*names)
    return lambda model: tuple(getattr(model, name) for name in names)


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        return value.to_wire()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _named(cls: type[Model], values: Any) -> dict[str, Any]:
    turns = _turns(cls)
    if not isinstance(values, tuple) or len(values) != len(turns):
        raise BadMessage(f"{cls.__name__}: expected {len(turns)} fields")
    pairs = zip(turns, values, strict=True)
    return {name: value if turn is None else turn(value) for (name, turn), value in pairs}


Turn = Callable[[Any], Any]
"""Turns the arrays that stand for nested models back into named fields."""


@cache
def _turns(cls: type[Model]) -> tuple[tuple[str, Turn | None], ...]:
    """The fields in declaration order. None: there is no model in it, however long its value may be."""
    return tuple((name, _turn(info.annotation)) for name, info in cls.model_fields.items())


def _turn(annotation: Any) -> Turn | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return partial(_named, annotation)
    arguments = get_args(annotation)
    turns = [_turn(argument) for argument in arguments]
    first = next(filter(None, turns), None)
    if first is None:
        return None
    if get_origin(annotation) is not tuple:
        return partial(_optional, first)  # Optional[X] and Annotated[X, ...]
    return partial(_each, first) if arguments[-1] is Ellipsis else partial(_both, turns)


def _optional(turn: Turn, value: Any) -> Any:
    return None if value is None else turn(value)


def _each(turn: Turn, values: Any) -> Any:
    return tuple(turn(value) for value in values) if isinstance(values, tuple) else values


def _both(turns: Sequence[Turn | None], values: Any) -> Any:
    if not isinstance(values, tuple) or len(values) != len(turns):
        return values
    return tuple(value if turn is None else turn(value) for turn, value in zip(turns, values, strict=True))


def unpack(data: bytes | memoryview, limit: int = MAX_MESSAGE_BYTES) -> Any:
    """msgpack, arrays as tuples; no inner length can exceed that of `data`. Raises BadMessage."""
    if len(data) > limit:
        raise BadMessage(f"message of {len(data)} bytes exceeds the limit of {limit}")
    try:
        return msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True)
    # hostile bytes make msgpack raise any of these
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise BadMessage(f"not msgpack: {error}") from None
