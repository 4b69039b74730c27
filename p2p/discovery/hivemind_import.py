"""The one door to hivemind: nothing else imports it, and of it only the DHT and the client of its libp2p daemon.

hivemind and py-libp2p both register the protobuf enum `crypto.pb.KeyType`, so importing both in one process fails.
py-libp2p's file is a superset with the same names and wire format; it stands in for hivemind's here. And hivemind takes
the time from the wall clock, which may be wrong; here it takes it from dht_clock.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

from p2p.bare_package import bare_package
from p2p.discovery.dht_clock import dht_time
from p2p.libp2p_import import crypto_pb2

assert "hivemind" not in sys.modules, "import hivemind through p2p.discovery.hivemind_import only"
_hivemind = bare_package("hivemind")
sys.modules["hivemind.proto.crypto_pb2"] = crypto_pb2
# hivemind installs its own stderr handler at import; nodes print their own lines
os.environ.setdefault("HIVEMIND_LOGLEVEL", "ERROR")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, in a part of hivemind that is not used here
    import hivemind.utils.timed_storage

    # before the DHT's modules bind the name
    hivemind.utils.get_dht_time = hivemind.utils.timed_storage.get_dht_time = dht_time

    import hivemind.hivemind_cli
    from hivemind.dht.node import DHTNode
    from hivemind.dht.protocol import DHTProtocol, ValidationError
    from hivemind.dht.routing import DHTID
    from hivemind.dht.storage import DictionaryDHTValue
    from hivemind.dht.validation import DHTRecord, RecordValidatorBase
    from hivemind.p2p import P2P, PeerID
    from hivemind.p2p.p2p_daemon_bindings.p2pclient import Client as P2pdClient
    from hivemind.p2p.p2p_daemon_bindings.utils import ControlFailure
    from hivemind.proto.dht_pb2 import PingRequest
    from hivemind.utils.multiaddr import Multiaddr

P2PD_PATH = Path(hivemind.hivemind_cli.__file__).with_name("p2pd")
"""The libp2p daemon (a Go program) that comes with hivemind."""


def whole_hivemind() -> ModuleType:
    """All of it, which no node needs: a benchmark compares with its averager."""
    assert _hivemind.__spec__ is not None
    assert _hivemind.__spec__.loader is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _hivemind.__spec__.loader.exec_module(_hivemind)
    return _hivemind


__all__ = [
    "DHTID",
    "P2P",
    "P2PD_PATH",
    "ControlFailure",
    "DHTNode",
    "DHTProtocol",
    "DHTRecord",
    "DictionaryDHTValue",
    "Multiaddr",
    "P2pdClient",
    "PeerID",
    "PingRequest",
    "RecordValidatorBase",
    "ValidationError",
    "whole_hivemind",
]
