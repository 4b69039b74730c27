"""The audit at the end of a simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2p.protocol.messages import SignedRecord
from swarm.simulate.audited import audited
from tests.p2p.protocol.records import verify
from tests.swarm.test_audit import CHAIN, write


@pytest.fixture(autouse=True)
def stand_in_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.audit.verify", verify)


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = {"problems": []}
    audited(report, folder)
    return report


def test_what_is_proved_is_in_the_report(tmp_path: Path) -> None:
    write(tmp_path / "node0", CHAIN)
    write(tmp_path / "node1", CHAIN[:2])
    report = report_of(tmp_path)
    assert report["problems"] == []
    assert report["audit_summary"] == "3 records of 2 nodes, 7 signatures, 29 samples committed once each"
    assert any(line.startswith("ledger") for line in report["audit"])


def test_a_violation_is_a_problem(tmp_path: Path) -> None:
    forged = SignedRecord(record=CHAIN[1].record, signatures=((2, bytes(64)),))
    write(tmp_path / "node0", [CHAIN[0], forged])
    report = report_of(tmp_path)
    (problem,) = report["problems"]
    assert problem.startswith("the audit of the records failed: node0: after round 0: record of round 1 has a forged")
    assert "audit_summary" not in report


def test_nodes_without_records_have_nothing_to_audit(tmp_path: Path) -> None:
    assert report_of(tmp_path) == {"problems": []}
