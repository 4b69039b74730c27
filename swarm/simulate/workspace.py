"""The temporary directory of a simulation: one state directory and one configuration a node."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from p2p.errors import SwarmError
from swarm.config import NodeConfig, RunConfig


class NoReportDirectory(SwarmError):
    """The report cannot be written where it was asked for."""


class Workspace:
    """Made at the start, removed at the end unless somebody wants to look."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="swarm-"))

    def state_dir(self, node: str) -> Path:
        path = self.path / node
        path.mkdir(exist_ok=True)
        return path

    def write_config(self, name: str, run: RunConfig, node: NodeConfig) -> Path:
        path = self.state_dir(name) / "swarm.toml"
        path.write_text(to_toml({"run": run, "node": node}))
        return path

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def to_toml(tables: Mapping[str, BaseModel]) -> str:
    """The fields that were set, as TOML."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        fields = table.model_dump(mode="json", exclude_none=True)
        # a JSON string, number, boolean or list of strings is also a TOML value
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join([*lines, ""])


def clean_environment() -> dict[str, str]:
    """Ours without SWARM_RUN__* and SWARM_NODE__*, which would override the generated files of all nodes alike."""
    return {
        key: value for key, value in os.environ.items() if not key.upper().startswith(("SWARM_RUN__", "SWARM_NODE__"))
    }


def report_directory(path: Path) -> Path:
    """Make it and try it, before minutes of work go into it. Raises NoReportDirectory."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise NoReportDirectory(f"cannot write to {path}: {error.strerror}; choose another --report") from None
    return path
