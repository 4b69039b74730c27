"""The fault script of a simulation: what happens to whom and when, as a TOML file says it.

[[fault]]                       # one action each
after_round = 3                 # once any node has committed that round; or  at = 12.5: seconds after the founding
kind = "kill"                   # join, leave, kill, freeze, restart, cut, heal
node = "coordinator"            # a name (node0, ...) or a role: coordinator, newcomer, random, bootstrap

[chaos]                         # actions drawn at random, see swarm.simulate.chaos
seconds = 600

[clock]                         # wall clocks that are wrong, in seconds
node1 = -300
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from p2p.errors import SwarmError
from swarm.config import NonNegative, Positive, Rate, Table

Kind = Literal["join", "leave", "kill", "freeze", "restart", "cut", "heal"]
Role = Literal["coordinator", "newcomer", "random", "bootstrap"]
ROLES: tuple[str, ...] = get_args(Role)
OTHERS = "others"
"""In a cut: every node that runs and is not on the other side."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class BadFaults(SwarmError):
    """A fault script that cannot be read, or asks for what cannot be."""


def _tuples(value: object) -> object:
    """TOML's lists, also lists of lists."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


class Fault(Table):
    """One action, and when it is due: once any node has committed `after_round`, or `at` seconds after the founding."""

    kind: Kind
    """join: one more node starts. leave: SIGTERM. kill: SIGKILL. freeze: SIGSTOP, and SIGCONT after `seconds`.
    restart: killed if it runs, and `seconds` later started on its old state directory. cut: the nodes on both sides
    of `between` do not reach each other, for `seconds` or until a heal. heal: of all cuts."""
    node: Name | None = None
    """A name, or a role that is looked up when the fault is due; of a join the newcomer's name."""
    after_round: Positive | None = None
    at: NonNegative | None = None
    seconds: Rate | None = None
    between: Annotated[tuple[tuple[Name, ...], ...], BeforeValidator(_tuples)] = ()

    @model_validator(mode="after")
    def _whole(self) -> Fault:
        if (self.at is None) == (self.after_round is None):
            raise ValueError("say when: either at = SECONDS or after_round = ROUND")
        if self.kind in ("leave", "kill", "freeze", "restart") and self.node is None:
            raise ValueError(f"say whom: node = a name, or one of {', '.join(ROLES)}")
        if self.kind in ("cut", "heal") and self.node is not None:
            raise ValueError(f'a {self.kind} has no node; a cut has two sides: between = [["node0"], ["others"]]')
        if self.kind == "join" and self.node in (*ROLES, OTHERS):
            raise ValueError(f"a node cannot be called {self.node}: that is a role")
        if self.kind == "freeze" and self.seconds is None:
            raise ValueError("say for how long: seconds = ...")
        if self.kind not in ("freeze", "restart", "cut") and self.seconds is not None:
            raise ValueError(f"a {self.kind} does not last: leave out seconds")
        if (self.kind == "cut") != (len(self.between) == 2 and all(self.between)):
            raise ValueError('a cut, and nothing else, has two sides: between = [["node0"], ["node1", "node2"]]')
        return self

    @property
    def when(self) -> str:
        """For people."""
        return f"at {self.at:g} s" if self.at is not None else f"after round {self.after_round}"


Span = Annotated[tuple[NonNegative, NonNegative], BeforeValidator(_tuples)]
"""[least, most] of what is drawn at random."""


class Chaos(Table):
    """Faults drawn at random; how likely is told by weights, of which only the ratios count."""

    seconds: Rate
    """How long; then what is frozen thaws, the swarm is given a while to come to rest, and leaves."""
    every: Span = (2.0, 5.0)
    """Seconds from one action to the next."""
    start: NonNegative = 0.6
    """Weight of a start: of a new node, or of one that is down, with its old state directory."""
    kill: NonNegative = 0.3
    freeze: NonNegative = 0.1
    leave: NonNegative = 0.0
    nodes: Positive = 8
    """Most nodes that run at a time."""
    least: Positive = 2
    """Nodes that hold the state and are neither killed nor frozen, whatever is drawn: the run must survive in them."""
    freeze_seconds: Span = (1.0, 15.0)
    coordinator: NonNegative = 0.25
    """Probability that the victim is the coordinator."""
    bootstrap: NonNegative = 0.05
    """Probability that it is the bootstrap process, which comes back by itself some seconds later."""
    clock: NonNegative = 0.0
    """New nodes' wall clocks are wrong by up to so many seconds, either way."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _possible(self) -> Chaos:
        if not self.start + self.kill + self.freeze + self.leave > 0:
            raise ValueError("nothing would happen: raise start, kill, freeze or leave")
        if self.least >= self.nodes:
            raise ValueError(f"least = {self.least} leaves no room below nodes = {self.nodes}")
        if any(low > high for low, high in (self.every, self.freeze_seconds)) or self.every[1] == 0:
            raise ValueError("every and freeze_seconds are [least, most] in seconds")
        return self


class FaultScript(Table):
    """A whole file."""

    model_config = Table.model_config | ConfigDict(validate_by_name=True, validate_by_alias=True)
    faults: Annotated[tuple[Fault, ...], BeforeValidator(_tuples), Field(alias="fault")] = ()
    chaos: Chaos | None = None
    clock: dict[Name, float] = Field(default_factory=dict)


def load_faults(path: Path) -> FaultScript:
    """Read a fault script. Raises BadFaults."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFaults(f"cannot read {path}: {error.strerror or error}; give an existing file to --faults") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFaults(f"{path}: not TOML: {error}") from None
    try:
        return FaultScript.model_validate(content)
    except ValidationError as error:
        problems = (_problem(details["loc"], details["msg"]) for details in error.errors(include_url=False))
        raise BadFaults("\n".join(f"{path}: {problem}" for problem in problems)) from None


def _problem(place: Sequence[int | str], message: str) -> str:
    names = [f"{item + 1}" if isinstance(item, int) else item for item in place]
    message = message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "unknown key")
    return f"{' '.join(names)}: {message}" if names else message


def named(faults: Iterable[Fault], founders: Sequence[str]) -> tuple[Fault, ...]:
    """The same faults with a name for every newcomer. Raises BadFaults if a name is given twice."""
    faults = tuple(faults)
    taken = {*founders}
    for fault in faults:
        if fault.kind == "join" and fault.node is not None:
            if fault.node in taken:
                raise BadFaults(f"two nodes would be called {fault.node}: give the join another node = ...")
            taken.add(fault.node)
    free = (name for number in range(1 << 20) if (name := f"node{number}") not in taken)
    return tuple(
        fault.model_copy(update={"node": next(free)}) if fault.kind == "join" and fault.node is None else fault
        for fault in faults
    )


def check_faults(script: FaultScript, founders: Sequence[str], rounds: int | None) -> None:
    """Whether that can happen to nodes of these names in so many rounds (None: no limit). Raises BadFaults."""
    faults = script.faults
    gone = sum(fault.kind in ("leave", "kill") and fault.node != "bootstrap" for fault in faults)
    come = len(founders) + sum(fault.kind in ("join", "restart") for fault in faults)
    if gone >= come and script.chaos is None:
        raise BadFaults(f"{gone} of {come} nodes would go: --nodes must be more than that")
    known = {*founders, *(fault.node for fault in faults if fault.kind == "join")}
    listed = f"there are {', '.join(founders)}, and those that join get a name with node = ..."
    for fault in faults:
        whom = {fault.node} if fault.node else {name for side in fault.between for name in side}
        allowed = {*known, *ROLES} | ({OTHERS} if fault.kind == "cut" else set())
        for name in sorted(whom - allowed):
            raise BadFaults(f"the {fault.kind} {fault.when}: nobody is called {name}; {listed}")
        if rounds is not None and fault.after_round is not None and fault.after_round >= rounds:
            raise BadFaults(
                f"the {fault.kind} {fault.when}: give a round from 1 to {rounds - 1}, or raise --rounds {rounds}"
            )
    for name in sorted(script.clock.keys() - known - {"bootstrap"}):
        raise BadFaults(f"[clock] {name}: nobody is called so; {listed}")
