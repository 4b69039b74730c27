"""One process of benchmarks/utilisation.py: a member of a ring all-reduce of int8 codes, on a host of its own.

PRIME's all-reduce is such a ring, over gloo (arXiv:2412.01152). Here gloo's own ring sums bytes, one for each value: as
much on the wire, in as many steps, and no codes to compute.

Its order comes as a line of JSON on standard input; for each reduce it answers with how long it took, in seconds.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch import distributed

from benchmarks.link_hosts import DEVICE, join

PORT = 29500
PATIENCE = timedelta(seconds=60)


def main() -> int:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    with socket.socket(fileno=settings["link"]) as link:
        join(settings["address"], settings["congestion"], link)
    order = json.loads(sys.stdin.readline())
    os.environ["GLOO_SOCKET_IFNAME"] = DEVICE
    rank, members = order["rank"], order["members"]
    store = distributed.TCPStore(order["first"], PORT, members, is_master=rank == 0, timeout=PATIENCE)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=members)
    codes_P = torch.ones(order["values"], dtype=torch.uint8)
    for _ in range(order["reduces"]):
        time.sleep(order["pause"])
        distributed.barrier()
        began = time.monotonic()
        distributed.all_reduce(codes_P)
        print(json.dumps({"seconds": time.monotonic() - began}), flush=True)
    distributed.barrier()
    distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
