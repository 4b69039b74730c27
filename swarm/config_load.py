"""Reads the configuration: defaults < TOML file < environment < command line.

Each layer is checked by itself, so that a complaint can say where the value came from and what to write instead.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from p2p.errors import SwarmError
from swarm.config import Config, NodeConfig, RunConfig, Table

TABLES: dict[str, type[Table]] = {"run": RunConfig, "node": NodeConfig}
PREFIX = "SWARM_"

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "a string in quotes",
    "tuple": "a list of strings",
    "path": "a path",
}


class ConfigError(SwarmError):
    """One line for each thing that is wrong with the configuration."""


def load_config(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Merge the layers into one checked Config.

    environment: variables like SWARM_NODE__PORT; others are ignored, and so are empty ones.
    options: {"run": {...}, "node": {...}} from the command line; None stands for an option not given.

    Raises ConfigError.
    """
    problems: list[str] = []
    merged: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    layers = [_from_file(file)] if file else []
    layers += [_from_environment(environment or {}), _from_options(options or {})]
    for layer in layers:
        for name in TABLES:
            merged[name] |= layer.values_of(name, problems)
        problems += layer.problems
    if problems:
        raise ConfigError("\n".join(problems))
    config = Config(run=RunConfig(**merged["run"]), node=NodeConfig(**merged["node"]))
    _check_schedule(config.run)
    _check_fragments(config.run)
    return config


def _check_schedule(run: RunConfig) -> None:
    """What no layer can see by itself. Raises ConfigError."""
    if run.overlap_steps > run.inner_steps:
        raise ConfigError(
            f"[run] overlap_steps: {run.overlap_steps} is more than a round has; inner_steps is {run.inner_steps}"
        )
    if run.decay_steps and not run.total_steps:
        raise ConfigError("[run] decay_steps: nobody knows when to begin; set total_steps, the planned inner steps")
    if run.decay_steps and run.warmup_steps + run.decay_steps > run.total_steps:
        raise ConfigError(
            f"[run] decay_steps: {run.warmup_steps} warmup_steps and {run.decay_steps} decay_steps are more than the "
            f"{run.total_steps} total_steps; set a larger total_steps, or less of the others"
        )


def _check_fragments(run: RunConfig) -> None:
    """Raises ConfigError."""
    from swarm.model.sizes import SIZES

    layers = SIZES[run.model].layers
    if run.fragments > layers:
        raise ConfigError(
            f"[run] fragments: the model {run.model!r} has {layers} layers; give at most as many fragments"
        )


class _Layer:
    """One source of values: its tables, and how it spells a key."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]], place: str, as_text: bool = False) -> None:
        """place: format with {table}, {key}, {TABLE}, {KEY}, {option}; as_text: all values are strings to be parsed."""
        self.tables, self.place, self.as_text = tables, place, as_text
        self.problems: list[str] = []

    def values_of(self, table: str, problems: list[str]) -> dict[str, Any]:
        given = dict(self.tables.get(table, {}))
        model = TABLES[table]
        try:
            checked = model.model_validate_strings(given) if self.as_text else model.model_validate(given)
        except ValidationError as error:
            problems += [self._line(table, details) for details in error.errors(include_url=False)]
            return {}
        return {key: getattr(checked, key) for key in checked.model_fields_set}

    def name(self, table: str, key: str) -> str:
        option = "--" + key.replace("_", "-")
        return self.place.format(table=table, key=key, TABLE=table.upper(), KEY=key.upper(), option=option)

    def _line(self, table: str, details: ErrorDetails) -> str:
        key = str(details["loc"][0])
        if details["type"] == "extra_forbidden":
            return f"{self.name(table, key)}: unknown key; {self._remedy(table, key)}"
        return f"{self.name(table, key)}: {_expectation(details)}"

    def _remedy(self, table: str, key: str) -> str:
        other = next((name for name in TABLES if name != table and key in TABLES[name].model_fields), None)
        if other:
            return f"it belongs in [{other}]"
        near = difflib.get_close_matches(key, TABLES[table].model_fields, n=1, cutoff=0.5)
        if near:
            return f"did you mean {near[0].upper() if '{KEY}' in self.place else near[0]}?"
        return f"known keys of [{table}]: {', '.join(TABLES[table].model_fields)}"


def _from_file(path: Path) -> _Layer:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"cannot read the configuration {path}: {reason}; give an existing file to --config"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; write the configuration as a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    layer = _Layer({}, f"{_braced(str(path))}: [{{table}}] {{key}}")
    layer.tables = {name: value for name, value in tables.items() if isinstance(value, dict)}
    for name, value in tables.items():
        if name not in TABLES:
            layer.problems.append(f"{path}: unknown {_stray(name, value)}")
        elif not isinstance(value, dict):
            layer.problems.append(f"{path}: {name}: expected a table, write [{name}] on a line of its own")
    return layer


def _stray(name: str, value: object) -> str:
    """What to do about a name at the top of the file that is neither of the two tables."""
    home = next((table for table, model in TABLES.items() if name in model.model_fields), None)
    if home and not isinstance(value, dict):
        return f"key {name!r} outside a table; it belongs under [{home}]"
    kind = "table" if isinstance(value, dict) else "key"
    near = difflib.get_close_matches(name, TABLES, n=1, cutoff=0.5)
    return f"{kind} {name!r}; " + (f"did you mean [{near[0]}]?" if near else "the tables are [run] and [node]")


def _from_environment(environment: Mapping[str, str]) -> _Layer:
    tables: dict[str, dict[str, str]] = {name: {} for name in TABLES}
    for variable, value in environment.items():
        for name, keys in tables.items():
            prefix = f"{PREFIX}{name.upper()}__"
            if variable.upper().startswith(prefix) and value:
                keys[variable[len(prefix) :].lower()] = value
    return _Layer(tables, f"{PREFIX}{{TABLE}}__{{KEY}} (environment)", as_text=True)


def _from_options(options: Mapping[str, Mapping[str, Any]]) -> _Layer:
    tables = {name: {k: v for k, v in values.items() if v is not None} for name, values in options.items()}
    return _Layer(tables, "{option}")


def _expectation(details: ErrorDetails) -> str:
    """What a field wants, from pydantic's account of what it got."""
    kind, context, given = details["type"], details.get("ctx", {}), _shown(details["input"])
    bounds = {"greater_than_equal": ("at least", "ge"), "greater_than": ("more than", "gt")}
    bounds |= {"less_than_equal": ("at most", "le"), "less_than": ("less than", "lt")}
    if kind in bounds:
        words, limit = bounds[kind]
        return f"expected {words} {context[limit]}, not {given}"
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return f"{given} is not known; allowed: {allowed}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return f"expected cpu, cuda or cuda:N, not {given}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "string_too_long":
        return f"expected at most {context['max_length']} characters, not {len(str(details['input']))}"
    stem = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    return f"expected {_EXPECTED.get(stem, details['msg'])}, not {given}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
