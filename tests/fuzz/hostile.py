"""Hostile messages, made from the message classes themselves: right in form, and anything in content.

Nothing here names a message or a field: whatever pydantic says of a field is what its values are drawn from, with a
liking for the bounds, for what an honest node just said, and for what fits a program's blind spots.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Literal, TypeVar

from p2p.protocol.model import Model

M = TypeVar("M", bound=Model)
INTS = (0, 1, 2, 3, 4, 7, 8, 255, 256, 1023, 1024, 4095, 4096, 65535, 1 << 20, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e308, math.inf, -math.inf, math.nan)
MANY = 4096
"""How long the longest tuples get: as many as the limits of members allow."""


class Hostile:
    """Draws values. `pool` holds what honest nodes said: its parts turn up in what is drawn."""

    def __init__(self, random: Random, longest: int = MANY) -> None:
        self.random = random
        self.longest = longest
        self._pool: dict[Any, list[Any]] = {}

    def learn(self, model: Model) -> None:
        """Remember a message and everything in it, by type; of each type the last few hundred."""
        self._remember(type(model), model)
        for name, info in type(model).model_fields.items():
            self._learn(info.annotation, getattr(model, name))

    def _learn(self, annotation: Any, value: Any) -> None:
        if isinstance(value, Model):
            self.learn(value)
        elif isinstance(value, tuple):
            for item in value:
                self._learn(None, item)
        elif isinstance(value, str | bytes) or (isinstance(value, int) and not isinstance(value, bool)):
            self._remember((type(value), len(value) if isinstance(value, bytes) else 0), value)

    def _remember(self, key: Any, value: Any) -> None:
        kept = self._pool.setdefault(key, [])
        if len(kept) < 300:
            kept.append(value)
        else:
            kept[self.random.randrange(300)] = value

    # --- whole messages

    def message(self, kind: type[M]) -> M:
        """A valid instance of `kind`: drawn anew, or one that was said, with something changed in it."""
        said = self._pool.get(kind)
        if said and self.random.random() < 0.7:
            return self.changed(self.random.choice(said))
        return self.drawn(kind)

    def drawn(self, kind: type[M]) -> M:
        values = {name: self._value(info.annotation, info.metadata) for name, info in kind.model_fields.items()}
        return kind.model_construct(**values)

    def changed(self, model: M) -> M:
        """With one or two of its fields, or of the fields of what is in it, replaced; now and then with none."""
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3))):
            model = self._changed(model)
        return model

    def _changed(self, model: M) -> M:
        if not type(model).model_fields:
            return model
        name, info = self.random.choice(list(type(model).model_fields.items()))
        value = getattr(model, name)
        return model.model_copy(update={name: self._change(value, info.annotation, info.metadata)})

    def _change(self, value: Any, annotation: Any, metadata: Iterable[Any]) -> Any:
        if isinstance(value, Model) and self.random.random() < 0.7:
            return self._changed(value)
        if isinstance(value, tuple) and value and self.random.random() < 0.7:
            return self._change_tuple(value, annotation, metadata)
        if isinstance(value, int) and not isinstance(value, bool) and self.random.random() < 0.5:
            low, high = _bounds(metadata)
            return min(max(value + self.random.choice((-1, 1, 1024, -1024)), low), high)
        return self._value(annotation, metadata)

    def _change_tuple(self, value: tuple[Any, ...], annotation: Any, metadata: Iterable[Any]) -> tuple[Any, ...]:
        """One item changed, left out, doubled, moved; if the type has a fixed length, changed only."""
        arguments = typing.get_args(annotation)
        place = self.random.randrange(len(value))
        inner, more = _inner(arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else arguments[place])
        item = self._change(value[place], inner, more)
        if len(arguments) != 2 or arguments[1] is not Ellipsis:
            return (*value[:place], item, *value[place + 1 :])
        least, most = _lengths(metadata)
        options = [(*value[:place], item, *value[place + 1 :]), (*value[1:], value[0]), tuple(reversed(value))]
        if len(value) > least:
            options.append((*value[:place], *value[place + 1 :]))
        if len(value) < most:
            options.append((*value, value[place]))
        return self.random.choice(options)

    # --- values by type

    def _value(self, annotation: Any, metadata: Iterable[Any]) -> Any:
        annotation, metadata = _inner(annotation, metadata)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            return self._value(self.random.choice(arguments), metadata)
        if annotation is type(None):
            return None
        if origin is Literal:
            return self.random.choice(arguments)
        if origin is tuple:
            return self._tuple(arguments, metadata)
        if isinstance(annotation, type) and issubclass(annotation, Model):
            return self.message(annotation)
        return self._plain(annotation, metadata)

    def _tuple(self, arguments: tuple[Any, ...], metadata: Iterable[Any]) -> tuple[Any, ...]:
        if len(arguments) != 2 or arguments[1] is not Ellipsis:
            return tuple(self._value(kind, ()) for kind in arguments)
        least, most = _lengths(metadata)
        length = min(max(self._length(), least), most)
        if length <= 8:
            return tuple(self._value(arguments[0], ()) for _ in range(length))
        few = [self._value(arguments[0], ()) for _ in range(3)]
        return tuple(self.random.choices(few, k=length))

    def _length(self) -> int:
        if self.random.random() < 0.005:
            return self.longest
        return self.random.choice((0, 0, 1, 1, 2, 3, 4, 5, 8))

    def _plain(self, annotation: Any, metadata: Iterable[Any]) -> Any:
        makers: dict[Any, Callable[[Iterable[Any]], Any]] = {
            bool: lambda _: self.random.random() < 0.5,
            int: self._int,
            float: lambda _: self.random.choice(FLOATS),
            str: self._str,
            bytes: self._bytes,
        }
        return makers[annotation](metadata)

    def _int(self, metadata: Iterable[Any]) -> int:
        low, high = _bounds(metadata)
        said = self._pool.get((int, 0))
        if said and self.random.random() < 0.5:
            found = self.random.choice(said)
        else:
            found = self.random.choice((*INTS, -1, low, high))
        return int(min(max(found, low), high))

    def _str(self, metadata: Iterable[Any]) -> str:
        least, most = _lengths(metadata)
        said = [text for text in self._pool.get((str, 0), ()) if least <= len(text) <= most]
        if said and self.random.random() < 0.8:
            return str(self.random.choice(said))
        length = self.random.choice((least, min(most, least + 5)))
        alphabet = self.random.choice(("1", "Qm", "\x00", "\N{GRINNING FACE}", "abc .:/%"))
        return "".join(self.random.choices(alphabet, k=length))

    def _bytes(self, metadata: Iterable[Any]) -> bytes:
        least, most = _lengths(metadata)
        said = self._pool.get((bytes, most)) or ()
        if said and self.random.random() < 0.6:
            return bytes(self.random.choice(said))
        length = least if self.random.random() < 0.3 else min(most, self.random.choice((least, 1, 2, 16, 32, 512)))
        length = max(length, least)
        return self.random.choice((bytes(length), b"\xff" * length, self.random.randbytes(length)))


def _inner(annotation: Any, metadata: Iterable[Any] = ()) -> tuple[Any, tuple[Any, ...]]:
    """The type within Annotated, with the constraints of both."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return inner, (*metadata, *(m for item in more for m in _constraints(item)))
    return annotation, tuple(m for item in metadata for m in _constraints(item))


def _constraints(item: Any) -> Iterable[Any]:
    return getattr(item, "metadata", None) or (item,)


def _bounds(metadata: Iterable[Any]) -> tuple[int, int]:
    low, high = -(1 << 63), (1 << 64) - 1
    for item in metadata:
        low = max(low, getattr(item, "ge", low))
        high = min(high, getattr(item, "le", high), getattr(item, "lt", high + 1) - 1)
    return low, high


def _lengths(metadata: Iterable[Any]) -> tuple[int, int]:
    least, most = 0, 1 << 16
    for item in metadata:
        least = max(least, getattr(item, "min_length", None) or 0)
        longest = getattr(item, "max_length", None)
        most = most if longest is None else min(most, longest)
    return least, most
