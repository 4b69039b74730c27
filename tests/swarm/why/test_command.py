"""`swarm why` on files: what it reads of them, and what it says when there is nothing to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.events import EventLog, Train
from swarm.state_dir import EVENTS, NothingThere
from swarm.why.command import NothingToTell, newest_round, read, why
from tests.swarm.why.test_tell import A, B, applied, quiet


def write(folder: Path, who: str, rounds: int = 7) -> Path:
    now = 0.0
    log = EventLog(folder / EVENTS, quiet=True, clock=lambda: now)
    for number in range(rounds):
        now = 10.0 * number
        log.write(applied(who, number))
    for seconds, event in quiet(who):
        now = 60.0 + seconds
        log.write(event)
    log.close()
    return folder


def test_it_tells_the_story_of_the_round_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "n0", A)
    write(tmp_path / "n1", B)
    why([tmp_path], 7)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Round 7, by the logs of anna and bert.")
    assert "Trained and ready: anna and bert after 3.0 s." in lines
    why([tmp_path / "n0" / EVENTS], 7)
    assert capsys.readouterr().out.startswith("Round 7, by the log of anna.")


def test_the_newest_round_is_told_if_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    why([write(tmp_path / "n0", A)], None)
    assert capsys.readouterr().out.startswith("Round 7,")
    assert newest_round(tmp_path / "n0" / EVENTS) == 7


def test_a_running_node_s_half_line_is_left_for_later(tmp_path: Path) -> None:
    path = write(tmp_path / "n0", A) / EVENTS
    whole = list(read("n0", path, 7).entries)
    with path.open("a") as file:
        file.write('{"time":99,"event":"left","round":7}')
    assert list(read("n0", path, 7).entries) == whole


def test_of_a_long_log_only_what_matters_is_taken_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "n0", A) / EVENTS
    log = read("n0", path, 7)
    rounds = [event.round for _, event in log.entries if hasattr(event, "round")]
    assert min(rounds) == 6
    assert log.name == "anna"
    assert not any(isinstance(event, Train) and event.round != 7 for _, event in log.entries)


def test_a_round_that_no_log_knows_is_one_clear_error(tmp_path: Path) -> None:
    write(tmp_path / "n0", A)
    with pytest.raises(NothingToTell, match="no log tells of round 99: the newest they know is 7"):
        why([tmp_path], 99)
    (tmp_path / "n0" / EVENTS).write_text('{"time":1,"event":"notice","message":"x"}\n')
    with pytest.raises(NothingToTell, match="no log tells of round -1: they know of no commit yet"):
        why([tmp_path], None)
    with pytest.raises(NothingThere):
        why([tmp_path / "nowhere"], 1)
