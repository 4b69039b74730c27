"""Every simulation ends with an audit: the records of all its nodes are proved, as `swarm audit` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2p.protocol import ledger
from swarm.audit import Proof, prove
from swarm.state_dir import RECORDS, NothingThere, find

Prove = Callable[[dict[str, Path]], Proof]


def audited(report: dict[str, Any], folder: Path, prove: Prove = prove) -> None:
    """Put what is proved of the nodes' state directories in `folder` into the report, a violation into its problems."""
    try:
        proof = prove(find([folder], RECORDS))
    except NothingThere:  # nothing was committed, which is a problem of its own
        return
    report["audit"] = proof.lines()
    if proof.violation is not None:
        report["problems"].append(f"the audit of the records failed: {proof.violation}")
        return
    longest = max(proof.lineages, key=lambda lineage: lineage.audit.tip.tokens_total).audit
    report["audit_summary"] = (
        f"{longest.tip.height + 1} records of {len(proof.chains)} nodes, {longest.signatures} signatures, "
        f"{ledger.size(longest.committed)} samples committed once each"
        + (f"; histories parted {len(proof.forks)} times" if proof.forks else "")
    )
