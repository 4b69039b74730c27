"""`swarm audit` on files: what it says is true, and whatever is wrong is status 1 with a line that names it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from p2p.chain_file import ChainFile
from p2p.protocol.messages import SignedRecord
from swarm.audit import DifferentRuns, audit, prove
from swarm.state_dir import RECORDS, NothingThere
from tests.p2p.protocol.histories import extend, run
from tests.p2p.protocol.records import FINGERPRINT, peer, verify

CHAIN = run([[(0, 8), (1, 8), (2, 8)], [(0, 8), (1, 5), (2, 8)], [(0, 8)]])


@pytest.fixture(autouse=True)
def stand_in_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.audit.verify", verify)


def write(folder: Path, chain: Sequence[SignedRecord], fingerprint: bytes = FINGERPRINT) -> Path:
    folder.mkdir(parents=True)
    file = ChainFile(folder / RECORDS, fingerprint)
    for one in chain:
        file.append(one)
    file.close()
    return folder


def said(capsys: pytest.CaptureFixture[str], *paths: Path, one_lineage: bool = False) -> tuple[int, dict[str, str]]:
    """Exit status, and the lines by their first word."""
    status = audit(paths, one_lineage=one_lineage)
    lines = capsys.readouterr().out.splitlines()
    return status, {line.split()[0]: line for line in lines}


def test_it_says_what_it_proved_with_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = said(capsys, write(tmp_path / "a", CHAIN))
    assert status == 0
    assert "rounds 0 to 2 follow from genesis: 290 tokens" in lines["chain"]
    assert lines["signatures"].split()[1:5] == ["7", "by", "7", "seats,"]
    assert (
        "29 committed, each once: all of [0, 45) less 8 assigned, [13, 16), [32, 37) and 8 free, [37, 45)"
        in lines["samples"]
    )


def test_a_folder_of_state_directories_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "n0", CHAIN)
    write(tmp_path / "n1", CHAIN[:2])
    (tmp_path / "bootstrap").mkdir()
    status, lines = said(capsys, tmp_path)
    assert status == 0
    assert lines["agreement"].endswith("one history; chains end with n0 at round 2; n1 at round 1")


def test_histories_that_part_are_named_and_are_a_failure_only_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(tmp_path / "n0", CHAIN)
    other = write(tmp_path / "n1", extend(CHAIN[:2], [[(1, 8)], [(1, 8)]]))
    status, lines = said(capsys, one, other)
    assert status == 0
    assert lines["FORK"].endswith("after round 1: n0 against n1; signed on both sides: nobody")
    assert "2 histories" in lines["agreement"]
    assert said(capsys, one, other, one_lineage=True)[0] == 1


def test_the_first_violation_is_named_and_what_was_proved_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = SignedRecord(record=CHAIN[1].record, signatures=((2, bytes(64)),))
    status, lines = said(capsys, write(tmp_path / "n0", [CHAIN[0], forged, CHAIN[2]]))
    assert status == 1
    assert lines["VIOLATION"].endswith(f"n0: after round 0: record of round 1 has a forged signature of {peer(2)}")
    assert "rounds 0 to 0" in lines["chain"]
    assert "not compared" in lines["agreement"]


def test_a_changed_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "n0", CHAIN) / RECORDS
    whole = path.read_bytes()
    for place in (*range(48, 56), *range(60, len(whole), 97)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        proof = prove({"n0": path})
        assert proof.violation, f"byte {place}"


def test_a_torn_end_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "n0", CHAIN)
    (folder / RECORDS).write_bytes((folder / RECORDS).read_bytes()[:-3])
    status, lines = said(capsys, folder)
    assert status == 0
    assert "rounds 0 to 1" in lines["chain"]
    assert "n0 ends in" in lines["note"]


def test_a_node_that_has_committed_nothing_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = said(capsys, write(tmp_path / "n0", []))
    assert status == 0
    assert lines["chain"].endswith("no round is proved")


def test_records_of_different_runs_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "n0", CHAIN)
    write(tmp_path / "n1", [], bytes(32))
    with pytest.raises(DifferentRuns, match="n0 and n1 hold records of different runs"):
        audit([tmp_path], one_lineage=False)


def test_a_folder_without_records_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NothingThere, match=r"no records in .*state directory"):
        audit([tmp_path], one_lineage=False)


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "n0", CHAIN) / RECORDS
    told: list[tuple[int, int]] = []
    prove({"n0": path}, lambda done, total: told.append((done, total)))
    assert told
    assert all(0 < done <= total == path.stat().st_size for done, total in told)
