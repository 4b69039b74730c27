"""One process a state directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.state_dir import NothingThere, StateDirError, claimed, find

CLAIM = "import sys, pathlib; from swarm.state_dir import claimed\nwith claimed(pathlib.Path(sys.argv[1])): pass"


def claim_elsewhere(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CLAIM, str(path)], capture_output=True, text=True, check=False)


def test_it_makes_the_directory_and_keeps_others_out_while_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with claimed(path):
        refused = claim_elsewhere(path)
        assert refused.returncode == 1
        assert "another process uses the state directory" in refused.stderr
    assert claim_elsewhere(path).returncode == 0


def test_a_fork_does_not_take_the_lock_along(tmp_path: Path) -> None:
    with claimed(tmp_path):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(read, 1)
            os._exit(0)
    assert claim_elsewhere(tmp_path).returncode == 0
    os.write(write, b"x")
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)


def test_a_path_that_cannot_be_a_directory_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirError, match="choose another with --state-dir"), claimed(tmp_path / "file"):
        pass


def test_files_are_found_in_state_directories_and_one_level_below(tmp_path: Path) -> None:
    for name in ("run/a", "run/b", "other/a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "records").write_text("x")
    (tmp_path / "run" / "bootstrap").mkdir()
    run = tmp_path / "run"
    assert find([run / "a"], "records") == {"a": run / "a" / "records"}
    assert find([run], "records") == {"a": run / "a" / "records", "b": run / "b" / "records"}
    assert find([run, run / "b"], "records") == find([run], "records")
    assert find([run / "a" / "records"], "records") == find([run / "a"], "records")
    same = find([run / "a", tmp_path / "other" / "a"], "records")
    assert [*same] == [str(run / "a" / "records"), str(tmp_path / "other" / "a" / "records")]
    with pytest.raises(NothingThere, match="no records in"):
        find([run / "a", tmp_path / "nowhere"], "records")
