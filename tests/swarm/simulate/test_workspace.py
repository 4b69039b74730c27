"""The files a simulation makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.config import Config, NodeConfig, RunConfig
from swarm.config_load import load_config
from swarm.simulate.workspace import NoReportDirectory, Workspace, clean_environment, report_directory


def test_a_generated_configuration_reads_back_as_it_was() -> None:
    workspace = Workspace()
    node = NodeConfig(
        name='no"de\\ ✓',
        port=0,
        found=True,
        rounds=3,
        state_dir=workspace.state_dir("node0"),
        bootstrap_peers=("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2SDcyf8",),
    )
    run = RunConfig(seed=9, inner_lr=1e-7, min_peers=3)
    path = workspace.write_config("node0", run, node)
    assert load_config(path) == Config(run=run, node=node)
    workspace.remove()
    assert not workspace.path.exists()


def test_nodes_do_not_inherit_our_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_NODE__PORT", "1")
    monkeypatch.setenv("SWARM_RUN__SEED", "1")
    monkeypatch.setenv("SWARM_OTHER", "1")
    environment = clean_environment()
    assert "SWARM_OTHER" in environment
    assert not {"SWARM_NODE__PORT", "SWARM_RUN__SEED"} & environment.keys()


def test_a_report_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    path = report_directory(tmp_path / "a" / "b")
    assert list(path.iterdir()) == []


def test_a_report_that_could_not_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoReportDirectory, match="choose another --report"):
        report_directory(tmp_path / "file")
