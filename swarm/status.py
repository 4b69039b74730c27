"""`swarm status`: what a running node says of itself, as a table or as JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2p.channel.hello import MAX_RUN_BYTES
from p2p.errors import SwarmError
from p2p.observe import Observation, observe
from p2p.protocol.model import BadMessage, unpack

ANSWER_SECONDS = 5.0
_ADDRESS = re.compile(r"^(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s]+)):(?P<port>\d{1,5})$")


class BadAddress(SwarmError):
    """What was given is no HOST:PORT."""


def show_status(address: str, *, as_json: bool) -> None:
    """Ask the node at HOST:PORT and print. Raises BadAddress and NoAnswer."""
    host, port = parse_address(address)
    facts = describe(uvloop.run(observe(host, port, ANSWER_SECONDS)))
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        Console().print(table(address, facts))


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT, the host in brackets where it has colons itself. Raises BadAddress."""
    match = _ADDRESS.match(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise BadAddress(f"{address!r} is no address: write HOST:PORT, like 127.0.0.1:7400 or [::1]:7400")
    return match["v6"] or match["host"], int(match["port"])


def describe(seen: Observation) -> dict[str, Any]:
    """The answer as plain values."""
    status, record = seen.status, seen.record.record if seen.record else None
    run = _run_fields(seen.hello.run)
    return {
        "peer": seen.hello.peer,
        "run": run.get("name"),
        "model": run.get("model"),
        "fingerprint": seen.hello.fingerprint.hex(),
        "phase": status.phase,
        "round": status.height,
        "fragment": record.fragment if record else None,
        "fragments": record.fragments if record else None,
        "inner_step": status.inner_step,
        "tokens_total": status.tokens_total,
        "state_root": status.state_root.hex(),
        "head": status.head.hex(),
        "members": [{"peer": seat.peer, "tokens": seat.tokens, "weight": seat.weight} for seat in record.seats]
        if record
        else [],
        "next_view": list(record.next_view) if record else [],
        "silent": {peer: round(age, 1) for peer, age in status.silent},
    }


def _run_fields(packed: bytes) -> dict[str, Any]:
    """A stranger wrote these bytes."""
    try:
        fields = unpack(packed, MAX_RUN_BYTES) if packed else {}
    except BadMessage:
        return {}
    return fields if isinstance(fields, dict) else {}


def table(address: str, facts: Mapping[str, Any]) -> Table:
    """The same for people."""
    shown = Table(title=f"node at {address}", title_justify="left", show_header=False)
    contributors = sum(member["weight"] > 0 for member in facts["members"])
    part = f", fragment {facts['fragment'] + 1} of {facts['fragments']}" if (facts["fragments"] or 1) > 1 else ""
    rows = {
        "peer": facts["peer"],
        "run": f"{facts['run']} ({facts['model']}), fingerprint {facts['fingerprint'][:16]}",
        "phase": f"{facts['phase']}, inner step {facts['inner_step']}",
        "last round": "none yet" if facts["round"] < 0 else f"{facts['round']}{part}",
        "members": f"{len(facts['members'])}, {contributors} of them in the mean; {len(facts['next_view'])} next",
        "tokens": f"{facts['tokens_total']:,}",
        "state": facts["state_root"][:16] or "not held yet",
    }
    for key, value in rows.items():
        shown.add_row(key, Text(value))  # as text: a peer's words are no markup
    for peer, age in facts["silent"].items():
        shown.add_row("unheard", f"{peer} for {age} s")
    return shown
