from __future__ import annotations

from pathlib import Path

from benchmarks.audit import grow
from swarm.audit import prove


def test_the_chain_that_is_measured_is_a_sound_one_with_absences(tmp_path: Path) -> None:
    grow(tmp_path / "records", records=30, members=4)
    proof = prove({"node": tmp_path / "records"})
    assert proof.violation is None
    audit = proof.lineages[0].audit
    assert audit.tip.height == 29
    assert audit.signatures < 30 * 4
