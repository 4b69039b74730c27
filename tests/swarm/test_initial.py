"""A run can start from a Hugging Face Llama: its digest is the run's, and whoever lacks it is told what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.digest import digest
from swarm.checkpoint.source import model_layout
from swarm.config import RunConfig, run_fields, run_fingerprint
from swarm.export.write import write_model
from swarm.initial import NoFirstParameters, cannot_found, check_first, fill_first, initial_digest, is_digest
from swarm.model.sizes import SIZES
from tests.swarm.export.models import BYTES, theta_of

DEMO = SIZES["demo"]
THETA_P = theta_of(DEMO)
DIGEST = digest(THETA_P).hex()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    write_model(path, THETA_P, model_layout(DEMO), DEMO, context=128)
    return path


def never(out_P: np.ndarray) -> None:
    raise AssertionError("the seed has no part in this")


def test_a_folder_and_its_digest_are_the_same_run(folder: Path, tmp_path: Path) -> None:
    run = RunConfig(initial=str(folder))
    known = RunConfig(initial=DIGEST)
    assert initial_digest(run) == initial_digest(known) == DIGEST
    assert run_fingerprint(run) == run_fingerprint(known) != run_fingerprint(RunConfig())
    assert run_fields(run)["initial"] == DIGEST
    write_model(tmp_path, THETA_P, model_layout(DEMO), DEMO, context=128, shard_bytes=200_000)
    assert run_fingerprint(RunConfig(initial=str(tmp_path))) == run_fingerprint(run)


def test_the_first_parameters_are_the_folders(folder: Path) -> None:
    out_P = np.empty_like(THETA_P)
    assert fill_first(RunConfig(initial=str(folder)), out_P, never)
    assert out_P.tobytes() == THETA_P.tobytes()
    assert fill_first(RunConfig(), out_P, lambda out_P: out_P.fill(1.0))
    assert (out_P == 1.0).all()


def test_a_digest_alone_has_to_be_filled_by_others_and_is_checked(folder: Path) -> None:
    run = RunConfig(initial=DIGEST)
    assert is_digest(run.initial)
    assert not fill_first(run, np.empty_like(THETA_P), never)
    check_first(run, THETA_P)
    with pytest.raises(NoFirstParameters, match="not those of run"):
        check_first(run, THETA_P + 1)
    check_first(RunConfig(), THETA_P)
    assert "give the model's folder instead" in str(cannot_found(run))


def test_the_digest_does_not_hang_on_where_a_runs_vector_has_the_parameters(folder: Path) -> None:
    out_P = np.empty_like(THETA_P)
    run = RunConfig(initial=str(folder), fragments=3)
    assert initial_digest(run) == DIGEST
    assert fill_first(run, out_P, never)
    assert out_P.tobytes() != THETA_P.tobytes()
    check_first(RunConfig(initial=DIGEST, fragments=3), out_P)


def test_another_model_is_refused_and_what_differs_named(tmp_path: Path) -> None:
    write_model(tmp_path, theta_of(BYTES), model_layout(BYTES), BYTES, context=128)
    with pytest.raises(
        NoFirstParameters, match=r"no model 'demo': it has dim 48 instead of 128, layers 3.*set run.model"
    ):
        initial_digest(RunConfig(initial=str(tmp_path)))
