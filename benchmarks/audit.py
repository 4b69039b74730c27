"""What it costs to audit a long run: time and memory of `swarm audit` on one core.

    python benchmarks/audit.py --records 100000      # prints the figures and writes benchmarks/audit.log

Makes a chain of real, signed records, whose members come, go and leave samples behind, and audits it from the disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.codec import processor
from p2p.chain_file import ChainFile
from p2p.identity import Identity
from p2p.protocol import ledger
from p2p.protocol.chain import SIGNATURE_DOMAIN, record_hash
from p2p.protocol.messages import Ready, Record, SignedRecord
from p2p.protocol.plan import Head, Rules, fresh
from swarm.audit import Proof, prove

LOG = Path(__file__).with_suffix(".log")
SEQUENCE = 128
RULES = Rules(bytes(32), count=1 << 20, codec="int8", block=1024, quota=160)


def grow(path: Path, records: int, members: int, seed: int = 0) -> None:
    """A chain in which one member in ten is missing in each round, and one in ten has not used all of its samples."""
    chance = random.Random(seed)
    identities = {one.peer_id: one for one in (Identity.generate() for _ in range(members))}
    chain, head = ChainFile(path, RULES.fingerprint), Head(RULES.fingerprint)
    for _ in range(records):
        present = [peer for peer in sorted(identities) if chance.random() > 0.1] or sorted(identities)
        ready = {peer: _ready(head, peer, chance) for peer in present}
        record = _record(head, ready)
        digest = record_hash(record)
        votes = [(rank, identities[peer].sign(SIGNATURE_DOMAIN, digest)) for rank, peer in enumerate(record.members)]
        chain.append(SignedRecord(record=record, signatures=tuple(votes)))
        head = Head(RULES.fingerprint, record)
    chain.close()


def _ready(head: Head, peer: str, chance: random.Random) -> Ready:
    most = RULES.quota if chance.random() > 0.1 else chance.randrange(RULES.quota)
    used, _ = ledger.take(ledger.assigned_to(head.ledger, peer), most)
    return Ready(round=head.height + 1, tokens=SEQUENCE * ledger.size(used), used=used)


def _record(head: Head, ready: dict[str, Ready]) -> Record:
    draft = fresh(RULES, head, head.ballot(0, 0), ready, head.tokens_total.to_bytes(32), ready).draft
    return draft.with_digests(tuple(bytes(32 * [1 + place % 255]) for place in range(len(draft.segments))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2000, help="length of the chain (default: %(default)s)")
    parser.add_argument("--members", type=int, default=8, help="who take part (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        grown = multiprocessing.Process(target=grow, args=(path, arguments.records, arguments.members))
        grown.start()  # in a process of its own, whose memory does not count
        grown.join()
        before, cpu = _peak(), time.thread_time()
        proof = prove({"node": path})
        seconds, memory = time.thread_time() - cpu, _peak() - before
        text = _report(arguments.records, arguments.members, path.stat().st_size, seconds, memory, proof)
    print(text)
    LOG.write_text(text)
    return 1 if proof.violation else 0


def _peak() -> int:
    """Most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _report(records: int, members: int, size: int, seconds: float, memory: int, proof: Proof) -> str:
    signatures = proof.lineages[0].audit.signatures
    return "\n".join(
        [
            f"{processor()}, one core: a chain of {records:,} records and {members} members, {size / 1e6:.1f} MB",
            f"{seconds:.1f} s of CPU, {seconds / records * 1e3:.2f} ms a record of {signatures / records:.1f} votes",
            f"{memory / 1e6:.1f} MB more memory at the peak than before",
            "",
            *proof.lines(),
            "",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
