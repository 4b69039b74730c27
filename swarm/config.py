"""What a run and a node can be told: two closed, immutable tables, and the fingerprint of the first.

`[run]` must be equal on every node: its hash is the run's identity. `[node]` is this machine's own affair.
`swarm.config_load` reads them from file, environment and command line; importing this module stays cheap.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from swarm.state_dir import EVENTS

FINGERPRINT_DOMAIN = b"swarm-run-fingerprint-1\n"
MULTIADDR = re.compile(r"^/(ip4|ip6|dns|dns4|dns6)/[^/\s]+/tcp/\d+(/[^\s]+)?/p2p/[1-9A-HJ-NP-Za-km-z]{40,64}$")

Scalar = str | int | float | bool
TrackerName = Literal["wandb", "trackio", "tensorboard"]


def _known_model(name: str) -> str:
    from swarm.model.sizes import SIZES  # cheap, but not needed by `swarm --help`

    if name not in SIZES:
        raise ValueError(f"no model {name!r}; allowed: {', '.join(SIZES)}")
    return name


def _known_mix(text: str) -> str:
    """The canonical form, so that spaces and the order of sources make no other run."""
    from swarm.data.mix import parse_mix

    return str(parse_mix(text))


def _split(value: object) -> object:
    """Commas separate the items of a list given as one string (environment, command line)."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _multiaddrs(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not MULTIADDR.match(value):
            raise ValueError(
                f"{value!r} is no address like /ip4/203.0.113.7/tcp/7401/p2p/12D3Koo...; `swarm bootstrap` prints it"
            )
    return values


FilePath = Annotated[Path, Field(strict=False), AfterValidator(Path.expanduser)]
Port = Annotated[int, Field(ge=0, le=65535)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1, le=1 << 40)]
Multiaddrs = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_multiaddrs)]


class Table(BaseModel):
    """Base of the tables: immutable, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class RunConfig(Table):
    """`[run]`: what all nodes of a run agree on."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = "demo"
    """Tells apart runs that are otherwise the same."""
    model: Annotated[str, AfterValidator(_known_model)] = "demo"
    """A size of swarm.model.sizes."""
    sequence_length: Positive = 128
    """Tokens in one sample."""
    batch_size: Positive = 4
    """Samples in one inner step of one node."""
    inner_steps: Positive = 40
    """H: inner steps in a round."""
    fragments: Annotated[int, Field(ge=1, le=32)] = 1
    """F: each round averages one F-th of the model, in turn; so each part of it is averaged every F rounds."""
    overlap_steps: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    """Inner steps of the next round, at most, that a node takes while a round is reduced; 0: it waits meanwhile."""
    overlap_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much of what these steps moved is kept: their gradients were those of other parameters."""
    codec: Literal["int8", "int4", "int2", "fp32"] = "int8"
    """How pseudo-gradients travel; int2 with error feedback."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Of the initial parameters and of the order of the samples."""
    initial: Annotated[str, Field(max_length=4096)] = ""
    """Start from a Hugging Face Llama instead of the seed: its folder, or the digest of its parameters."""
    min_peers: Annotated[int, Field(ge=1, le=4096)] = 1
    """Members that a round needs; with fewer the swarm waits."""
    founders: Annotated[int, Field(ge=1, le=4096)] = 1
    """Members that must come together to found the run."""
    outer_lr: Rate = 0.7
    outer_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Nesterov momentum; 0.9 suits long runs with large H and hurts short ones."""
    inner_optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: for the matrices of the layers, with AdamW for all other parameters."""
    inner_lr: Rate = 2e-3
    """Peak learning rate of the inner optimizer."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Inner steps, counted over rounds, in which the inner learning rate rises to its peak."""
    total_steps: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    """Inner steps planned for the run, which ends with the round that completes them; 0: it has no end."""
    decay_steps: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    """The last of them, in which the inner learning rate falls to 0 as 1 - sqrt; 0: it does not."""
    weight_decay: NonNegative = 0.1
    grad_clip: NonNegative = 1.0
    """Largest gradient norm in an inner step; 0 means no limit."""
    z_loss: NonNegative = 0.0
    """Weight of the max-z-loss, which keeps logits small; 0: none. Reported losses are without it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What inner steps compute in. Parameters, optimizer state and sums of gradients are fp32 in any case."""
    data: Annotated[str, AfterValidator(_known_mix)] = "embedded"
    """Sources with weights, see docs/data.md."""


class NodeConfig(Table):
    """`[node]`: this machine's own."""

    name: Annotated[str, Field(max_length=64)] = ""
    """How logs call this node; empty: the end of its peer id."""
    host: Annotated[str, Field(min_length=1)] = "0.0.0.0"
    """Address to listen on."""
    port: Port = 7400
    """Data plane; 0 picks a free one."""
    dht_port: Port = 7401
    """DHT; 0 picks a free one."""
    announce_host: Annotated[str, Field(min_length=1)] | None = None
    """Address others dial, where it is not the one this node listens on."""
    bootstrap_peers: Multiaddrs = ()
    """Where to find the swarm."""
    found: bool | None = None
    """Whether to start the run when nobody is there; unset: only if there is no bootstrap peer."""
    state_dir: FilePath = Field(default_factory=lambda: Path("~/.swarm").expanduser())
    """Key, events and state of this node."""
    key_file: FilePath | None = None
    """Ed25519 identity; unset: identity.key in the state directory."""
    events_file: FilePath | None = None
    """Structured log; unset: events.jsonl in the state directory."""
    data_dir: Annotated[str, Field(min_length=1)] | None = None
    """Where the sources of the run's data lie: a path or URL; each is a folder there, called as in the mix."""
    data_cache: FilePath = Field(default_factory=lambda: Path("~/.cache/swarm/data").expanduser())
    """Where blocks of data that lies elsewhere are kept."""
    data_cache_gb: Rate = 50.0
    """How many GB of them."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    threads: Positive | None = None
    """CPU threads for training, shared by the local ranks; unset: one per core."""
    local_world_size: Annotated[int, Field(ge=1, le=8)] = 1
    """Ranks that share the model on this machine, one GPU each with CUDA; together they are one member."""
    micro_batch_size: Positive | None = None
    """Samples in one forward and backward pass of one rank; unset: all that it has of a batch."""
    activation_checkpointing: Annotated[int, Field(ge=0, le=1024)] = 0
    """Recompute the activations of every n-th layer in the backward pass; 0: of none."""
    compile: bool = False
    """torch.compile each layer. On a CPU its kernels hold the GIL, so the network has to wait for them."""
    cpu_offload: bool = False
    """Keep parameters and optimizer state in CPU memory; for CUDA devices."""
    loss_chunk: Positive = 2048
    """Tokens of one rank whose logits exist at a time."""
    deterministic: bool = False
    """The same seed gives the same losses to the bit on this machine; slower on GPUs."""
    peak_tflops: Rate | None = None
    """bf16 TFLOP/s of one device, for mfu; unset: by its name where that is known."""
    rounds: Positive | None = None
    """Leave after the round with this number (round 0 only forms the first view); unset: stay."""
    bulk_lanes: Annotated[int, Field(ge=1, le=64)] = 1
    """Connections per peer for tensors; several fill a fat, long link."""
    donor_mbit: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Megabits a second, at most, that newcomers together are given of the state; unset: no limit."""
    keep_state: bool = True
    """Whether the state is kept on disk, too, so that a node that starts again fetches only what it lacks."""
    evaluate_every: Annotated[int, Field(ge=0)] = 1
    """Rounds between two held-out losses, when this node is the one that has time for them; 0: none."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 10
    """Rounds between two checkpoints; 0: none at all."""
    checkpoint_keep: Positive = 2
    """Newest checkpoints of this node that stay."""
    checkpoint_milestones: Annotated[int, Field(ge=0)] = 0
    """Checkpoints of every m-th round stay for ever; 0: none do."""
    checkpoint_inner: bool = True
    """Whether the inner optimizer's state is saved, too: 8 bytes a parameter on disk and, while saving, in memory."""
    checkpoint_dir: FilePath | None = None
    """Unset: checkpoints in the state directory."""
    checkpoint_url: str = ""
    """Where checkpoints are copied to, as fsspec writes it; empty: nowhere."""
    trackers: Annotated[tuple[TrackerName, ...], BeforeValidator(_split)] = ()
    """Whom to send the numbers of each round to; they are in metrics.jsonl in any case."""
    gather_seconds: NonNegative = 30.0
    """How long a node that comes back with a checkpoint waits for the others of its last round, if nobody is there."""
    quiet: bool = False
    """No log lines on standard error; events are still written."""

    @property
    def may_found(self) -> bool:
        return not self.bootstrap_peers if self.found is None else self.found

    @property
    def key_path(self) -> Path:
        return self.key_file or self.state_dir / "identity.key"

    @property
    def checkpoint_path(self) -> Path:
        return self.checkpoint_dir or self.state_dir / "checkpoints"

    @property
    def events_path(self) -> Path:
        return self.events_file or self.state_dir / EVENTS


class Config(Table):
    run: RunConfig = RunConfig()
    node: NodeConfig = Field(default_factory=NodeConfig)

    @property
    def last_round(self) -> int | None:
        """After which the node leaves: its own last one or the run's, whichever comes first; None: it stays."""
        planned = -(-self.run.total_steps // self.run.inner_steps) or None
        return min((last for last in (self.node.rounds, planned) if last is not None), default=None)


@cache
def run_fields(run: RunConfig, data_dir: str | None = None) -> dict[str, Scalar]:
    """All that members must agree on, flat, so that a refusal can name what differs.

    Beside `[run]` itself: the weights of the data's mix one by one, the digest of each source (the embedded one differs
    between Python versions), and the dimensions that the model's name stands for, which could differ between versions
    of Swarm. What the run starts from is named by its digest. data_dir: where this node has the sources. Raises
    SwarmError if one is not there.
    """
    from swarm.data.mix import parse_mix
    from swarm.data.open import data_digests
    from swarm.initial import initial_digest
    from swarm.model.sizes import SIZES

    fields: dict[str, Scalar] = dict(run.model_dump(exclude={"data"})) | {"initial": initial_digest(run)}
    for phase in parse_mix(run.data).phases:
        fields |= {f"data.weight.{name} from {phase.begin}": weight for name, weight in phase.weights}
    fields |= {f"data.digest.{name}": digest for name, digest in data_digests(run.data, data_dir).items()}
    return fields | {f"model.{key}": value for key, value in asdict(SIZES[run.model]).items()}


def run_fingerprint(run: RunConfig, data_dir: str | None = None) -> bytes:
    """32 bytes: BLAKE3 of the canonical JSON (sorted keys, no spaces, shortest floats) of `run_fields`."""
    from blake3 import blake3

    canonical = json.dumps(run_fields(run, data_dir), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return blake3(FINGERPRINT_DOMAIN + canonical.encode()).digest()
