"""The wire form that all messages share: strictly validated models, msgpack arrays, and the bounds of both."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Self

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_MESSAGE_BYTES = 1 << 20
MAX_MEMBERS = 4096
MAX_RANGES = 65536
MAX_SEGMENTS = 2 * MAX_MEMBERS
MAX_PIECES = 1 << 20

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
    names = list(cls.model_fields)
    if not isinstance(values, tuple) or len(values) != len(names):
        raise BadMessage(f"{cls.__name__}: expected {len(names)} fields")
    return {name: _nested(cls.model_fields[name].annotation, value) for name, value in zip(names, values, strict=True)}


def _nested(annotation: Any, value: Any) -> Any:
    """Turn the arrays that stand for nested models back into named fields, guided by the annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return _named(annotation, value)
    arguments = getattr(annotation, "__args__", None)
    if not arguments or value is None:
        return value
    if getattr(annotation, "__origin__", None) is tuple:
        if not isinstance(value, tuple):
            return value
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_nested(arguments[0], item) for item in value)
        return (
            tuple(_nested(kind, item) for kind, item in zip(arguments, value, strict=False)) + value[len(arguments) :]
        )
    return _nested(arguments[0], value)  # Optional[X] and Annotated[X, ...]


def unpack(data: bytes | memoryview, limit: int = MAX_MESSAGE_BYTES) -> Any:
    """msgpack, arrays as tuples; no inner length can exceed that of `data`. Raises BadMessage."""
    if len(data) > limit:
        raise BadMessage(f"message of {len(data)} bytes exceeds the limit of {limit}")
    try:
        return msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True)
    # hostile bytes make msgpack raise any of these
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise BadMessage(f"not msgpack: {error}") from None
