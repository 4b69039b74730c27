"""The image, run as a person would. Needs a Docker engine and a built image: SWARM_TEST_IMAGE names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE = os.environ.get("SWARM_TEST_IMAGE", "")
START_SECONDS = 150.0
"""Kernels compile at a node's first start, and the machine may be busy."""

pytestmark = [pytest.mark.docker, pytest.mark.e2e]


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert not check or result.returncode == 0, f"docker {' '.join(arguments)}: {result.stderr}"
    return result


@pytest.fixture(autouse=True)
def image() -> str:
    if not shutil.which("docker") or docker("info", check=False).returncode != 0:
        pytest.skip("no Docker engine runs here")
    if not IMAGE:
        pytest.skip("SWARM_TEST_IMAGE names no image; build one: docker build -f docker/Dockerfile -t swarm .")
    return IMAGE


@pytest.fixture
def container(image: str) -> Iterator[str]:
    """Name for a container; whatever has it at the end is removed, with its volume."""
    name = f"swarm-test-{uuid.uuid4().hex[:8]}"
    yield name
    docker("rm", "--force", "--volumes", name, check=False)


def test_the_command_line_is_the_entry_point(image: str) -> None:
    assert "bootstrap" in docker("run", "--rm", image, "--help").stdout
    result = docker("run", "--rm", image, "node", "--port", "many", check=False)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr


def test_it_does_not_run_as_root_and_makes_its_key_in_the_volume(image: str) -> None:
    assert docker("run", "--rm", "--entrypoint", "id", image, "-u").stdout.strip() != "0"
    assert docker("run", "--rm", image, "keygen").stdout.startswith("12D3Koo")
    mode = docker("run", "--rm", "--entrypoint", "sh", image, "-c", "swarm keygen >/dev/null; stat -c %a identity.key")
    assert mode.stdout.strip() == "600"


@pytest.mark.timeout(300)
def test_a_node_becomes_healthy_trains_alone_and_leaves_when_stopped(
    image: str, container: str, tmp_path: Path
) -> None:
    docker("run", "--detach", "--init", "--name", container, image, "node", "--announce-host", "127.0.0.1")
    deadline = time.monotonic() + START_SECONDS
    while docker("exec", container, "swarm", "status", "127.0.0.1:7400", check=False).returncode != 0:
        assert time.monotonic() < deadline, docker("logs", container).stderr
        assert docker("inspect", "--format", "{{.State.Running}}", container).stdout.strip() == "true"
    docker("stop", "--time", "30", container)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "0"
    docker("cp", f"{container}:/var/lib/swarm/events.jsonl", str(tmp_path))
    events = {json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()}
    assert {"started", "left"} <= events
