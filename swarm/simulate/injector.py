"""Does the faults of a scenario when they are due: those of the script, and those that the dice say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from swarm.simulate.board import Board
from swarm.simulate.chaos import Dice, Scene
from swarm.simulate.faults import OTHERS, Chaos, Fault
from swarm.simulate.fleet import BOOTSTRAP, Fleet
from swarm.simulate.scenario import Scenario

CALM_ROUNDS = 2
"""After chaos, everybody must commit so many more rounds together,"""
CALM_SECONDS = 120.0
"""within this time."""


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was done: to whom (a role is looked up by then), and when: seconds since the simulation began, and
    the newest round by then."""

    fault: Fault
    node: str
    seconds: float
    round: int = 0


class Injector:
    """Call `step` a few times a second. `done` is what was done, `problems` what could not be, after `close`."""

    def __init__(self, scenario: Scenario, fleet: Fleet, board: Board) -> None:
        self.done: list[Done] = []
        self.problems: list[str] = []
        self.over = False
        """Whether chaos has ended, and those who are left may leave."""
        self._fleet, self._board = fleet, board
        self._pending = list(scenario.script.faults)
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._founded: float | None = None
        self._chaos: Chaos | None = scenario.chaos
        self._dice = Dice(scenario.chaos or Chaos(seconds=1.0))
        self._next_draw = 0.0
        self._calm: tuple[float, int] | None = None
        """Since chaos has ended: when that is given up, and the round that all must reach."""

    def step(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._founded is None:
            if self._board.committed < 0:
                return
            self._founded = now
            self._next_draw = now + self._dice.pause()
        for due in [item for item in self._later if item[0] <= now]:
            self._later.remove(due)
            due[1]()
        for fault in [fault for fault in self._pending if self._is_due(fault, now - self._founded)]:
            if self._do(fault):
                self._pending.remove(fault)
        if self._chaos is not None:
            self._stir(self._chaos, now, now - self._founded)

    def close(self) -> None:
        """No more faults: tell of those that never were."""
        self.problems += [
            f"the {fault.kind}{f' of {fault.node}' if fault.node else ''} {fault.when} never happened: "
            + self._obstacle(fault)
            for fault in self._pending
        ]

    # --- when ---

    def _is_due(self, fault: Fault, seconds: float) -> bool:
        if fault.at is not None:
            return seconds >= fault.at
        assert fault.after_round is not None
        return self._board.committed >= fault.after_round

    def _obstacle(self, fault: Fault) -> str:
        if self._founded is None:
            return "the run was not founded"
        if self._is_due(fault, time.monotonic() - self._founded):
            return f"there was no {fault.node}" if fault.node else "one side of it was not there"
        return f"round {fault.after_round} was not reached" if fault.after_round else "the run ended before"

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    # --- chaos ---

    def _stir(self, chaos: Chaos, now: float, seconds: float) -> None:
        if self._calm is not None:
            self._settle(*self._calm)
        elif seconds >= chaos.seconds:
            due, self._later = self._later, []
            for _, action in due:
                action()
            self._calm = (now + CALM_SECONDS, self._board.committed + CALM_ROUNDS)
            self._board.tell("chaos is over; all who are left must commit together once more")
        elif now >= self._next_draw:
            self._next_draw = now + self._dice.pause()
            fault = self._dice.draw(self._scene(), seconds)
            if fault is not None:
                self._do(fault.model_copy(update={"node": self._fresh_name()}) if fault.kind == "join" else fault)

    def _fresh_name(self) -> str:
        taken = {*self._board.nodes, *(fault.node for fault in self._pending)}
        return next(name for number in itertools.count() if (name := f"node{number}") not in taken)

    def _settle(self, deadline: float, round: int) -> None:
        late = [name for name in self._fleet.present() if not self._board.nodes[name].trained_in(round)]
        if late and time.monotonic() < deadline:
            return
        if late:
            self.problems.append(
                f"{CALM_SECONDS:.0f} s after chaos round {round} is not committed by {', '.join(late)}"
            )
        self.over = True

    def _scene(self) -> Scene:
        running = self._fleet.running()
        return Scene(
            running=running,
            frozen=self._fleet.frozen(),
            holders={name for name in running if self._board.nodes[name].holds_state},
            down=self._fleet.down(),
            coordinator=self._coordinator(),
            bootstrap=self._fleet.lives(BOOTSTRAP) and not self._fleet.is_frozen(BOOTSTRAP),
        )

    # --- who ---

    def _coordinator(self) -> str | None:
        """Who drove the newest attempt, or would drive the next: the first member of the last round who runs."""
        running = self._fleet.running()
        newest = max((view.rounds[-1] for view in self._board.nodes.values() if view.rounds), key=lambda r: r.round)
        names = [self._board.name_of(peer) for peer in (self._board.coordinator, *newest.members)]
        return next((name for name in names if name in running), None)

    def _resolve(self, name: str, taken: tuple[str, ...] = ()) -> str | None:
        """The name of whoever has that role now; None if nobody has, or the node of that name does not run."""
        running = [other for other in self._fleet.running() if other not in taken]
        match name:
            case "coordinator":
                return self._coordinator()
            case "newcomer":
                return next((other for other in reversed(running) if not self._board.nodes[other].holds_state), None)
            case "random":
                return self._dice.pick(running) if running else None
        return name if self._fleet.lives(name) else None

    # --- what ---

    def _do(self, fault: Fault) -> bool:
        """False if it has to wait until somebody is there whom it can hit."""
        match fault.kind:
            case "join":
                assert fault.node is not None
                self._fleet.start(fault.node)
                self._note(fault, fault.node, "starts, to join the running swarm")
                return True
            case "cut":
                return self._cut(fault)
            case "heal":
                self._fleet.heal()
                self._note(fault, "", "every cut heals")
                return True
        assert fault.node is not None
        name = self._resolve(fault.node)
        if name is None and fault.kind == "restart" and fault.node in (BOOTSTRAP, *self._fleet.down()):
            name = fault.node
        if name is None or (fault.kind == "freeze" and self._fleet.is_frozen(name)):
            return False
        self._hit(fault, name)
        return True

    def _hit(self, fault: Fault, name: str) -> None:
        fleet, seconds = self._fleet, fault.seconds or 0.0
        match fault.kind:
            case "leave":
                fleet.leave(name)
                self._note(fault, name, "is asked to leave (SIGTERM)")
            case "kill":
                fleet.kill(name)
                self._note(fault, name, "is killed (SIGKILL)")
            case "freeze":
                fleet.freeze(name)
                self._note(fault, name, f"is frozen (SIGSTOP) for {seconds:.1f} s")
                self._after(seconds, lambda: self._thaw(name))
            case "restart":
                if fleet.lives(name):
                    fleet.kill(name)
                self._note(fault, name, f"is down, and starts again in {seconds:.1f} s" if seconds else "starts again")
                self._after(seconds, lambda: self._start_again(name))

    def _thaw(self, name: str) -> None:
        if self._fleet.lives(name) and self._fleet.is_frozen(name):
            self._fleet.thaw(name)
            self._board.tell("goes on (SIGCONT)", name)

    def _start_again(self, name: str) -> None:
        if self._fleet.ending(name):
            self._after(0.0, lambda: self._start_again(name))
        elif not self._fleet.lives(name):
            self._fleet.start(name)

    def _cut(self, fault: Fault) -> bool:
        left = self._side(fault.between[0], ())
        right = self._side(fault.between[1], left)
        if not left or not right:
            return False
        heal = self._fleet.cut(left, right)
        self._note(fault, "", f"{', '.join(left)} cut off from {', '.join(right)}")
        if fault.seconds is not None:
            self._after(fault.seconds, lambda: self._healed(heal))
        return True

    def _healed(self, heal: Callable[[], None]) -> None:
        heal()
        self._board.tell("the cut heals")

    def _side(self, names: tuple[str, ...], taken: tuple[str, ...]) -> tuple[str, ...]:
        """The nodes of one side; empty as long as one of them is not there."""
        side: list[str] = []
        for name in names:
            if name == OTHERS:
                side += [other for other in self._fleet.present() if other not in (*taken, *side)]
                continue
            found = self._resolve(name, (*taken, *side))
            if found is None:
                return ()
            side.append(found)
        return tuple(side)

    def _note(self, fault: Fault, name: str, text: str) -> None:
        self.done.append(Done(fault, name or _sides(fault), self._board.seconds(), self._board.committed))
        self._board.tell(text, name)


def _sides(fault: Fault) -> str:
    return " | ".join(", ".join(side) for side in fault.between)
