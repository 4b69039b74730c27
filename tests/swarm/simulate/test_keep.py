"""The newest checkpoint of any node stays beside the report, and can be talked to."""

from __future__ import annotations

from pathlib import Path

from swarm.checkpoint.manifest import read_manifest
from swarm.checkpoint.source import read_parameters
from swarm.simulate.keep import keep_checkpoint
from tests.swarm.export.models import BYTES, checkpoint


def test_the_newest_of_all_nodes_is_kept(tmp_path: Path) -> None:
    for node, rounds in (("node0", (2, 4)), ("node1", (5,)), ("node2", ())):
        (tmp_path / "swarm" / node).mkdir(parents=True)
        for round in rounds:
            checkpoint(tmp_path / "swarm" / node, BYTES, round=round)
    (tmp_path / "report" / "checkpoint").mkdir(parents=True)
    (tmp_path / "report" / "checkpoint" / "old").write_text("of an earlier simulation")
    kept = keep_checkpoint(tmp_path / "swarm", tmp_path / "report" / "checkpoint")
    assert kept == tmp_path / "report" / "checkpoint"
    assert read_manifest(kept).round == 5
    assert read_parameters(kept, lambda path, reason: None).manifest.round == 5
    assert not (kept / "old").exists()


def test_without_checkpoints_nothing_is_kept(tmp_path: Path) -> None:
    assert keep_checkpoint(tmp_path, tmp_path / "checkpoint") is None
    assert not (tmp_path / "checkpoint").exists()
