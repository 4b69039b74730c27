"""The protobuf clash between hivemind and py-libp2p, and that one module only knows of it."""

import re
import subprocess
import sys
from pathlib import Path

import p2p

ROOT = Path(p2p.__file__).parent.parent


def test_hivemind_and_libp2p_live_in_one_process() -> None:
    script = """
import libp2p.peer.pb.crypto_pb2
from p2p.discovery.hivemind_import import P2PD_PATH, whole_hivemind
from p2p.identity import Identity
from hivemind.proto import crypto_pb2
key = crypto_pb2.PrivateKey(key_type=crypto_pb2.KeyType.Ed25519, data=b"key")
assert crypto_pb2.PrivateKey.FromString(key.SerializeToString()) == key
assert Identity.generate().peer_id
assert P2PD_PATH.is_file()
hivemind = whole_hivemind()
assert hivemind.DHT and hivemind.DecentralizedAverager
"""
    # in a fresh process, where the imports come in this order and any warning is an error
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_node_gets_no_more_of_them_than_it_uses() -> None:
    """It would cost each start a second of CPU."""
    spared = ("hivemind.averaging", "hivemind.optim", "libp2p.host", "libp2p.transport", "scipy", "trio")
    script = f"import sys, p2p.discovery.discovery; print([name for name in {spared} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_else_imports_hivemind() -> None:
    pattern = re.compile(r"^\s*(?:import|from) hivemind\b", re.MULTILINE)
    importers = [
        path.relative_to(ROOT).as_posix()
        for package in ("ops", "p2p", "swarm", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        if pattern.search(path.read_text())
    ]
    assert importers == ["p2p/discovery/hivemind_import.py"]
