"""The command line. Commands import what they need when they run, so that `swarm --help` is instant."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from p2p.errors import SwarmError
from swarm.data.cli import app as data
from swarm.interrupt import INTERRUPTED, interrupt_ends_at_once

if TYPE_CHECKING:
    from swarm.config import Config


class Precision(StrEnum):
    """How exported values are stored."""

    float32 = "float32"
    bfloat16 = "bfloat16"


app = typer.Typer(
    name="swarm",
    help="Train one model together with strangers' machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with the tables [run] and [node].")]
Name = Annotated[str | None, typer.Option(help="How logs call this node.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Data port (0: any free one).")]
DhtPort = Annotated[int | None, typer.Option(help="DHT port (0: any free one).")]
AnnounceHost = Annotated[str | None, typer.Option(help="Address others dial, if it is not the one listened on.")]
Bootstrap = Annotated[
    list[str] | None, typer.Option(help="Multiaddrs of nodes that are in the swarm; repeat, or separate by commas.")
]
Found = Annotated[bool | None, typer.Option("--found/--no-found", help="Whether to start the run if nobody is there.")]
StateDir = Annotated[Path | None, typer.Option(help="Where the key, the state and the events are kept.")]
KeyFile = Annotated[Path | None, typer.Option(help="Ed25519 identity [default: identity.key in the state directory].")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")]
LocalWorldSize = Annotated[int | None, typer.Option(help="Ranks that share the model here, one GPU each with CUDA.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads for training.")]
LastRound = Annotated[int | None, typer.Option(help="Leave after this round [default: stay].")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No log lines; events are still written.")]
Model = Annotated[str | None, typer.Option(help="Size of the model.")]
InnerSteps = Annotated[int | None, typer.Option(help="H: inner steps in a round.")]
Fragments = Annotated[int | None, typer.Option(help="F: a round averages one F-th of the model, in turn.")]
BatchSize = Annotated[int | None, typer.Option(help="Samples in an inner step.")]
CodecName = Annotated[str | None, typer.Option("--codec", help="Of pseudo-gradients: int8, int4, int2 or fp32.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the parameters and of the order of the samples.")]
MinPeers = Annotated[int | None, typer.Option(help="Members that a round needs; with fewer the swarm waits.")]
TokenizerFile = Annotated[
    Path | None, typer.Option("--tokenizer", help="A Hugging Face tokenizer.json, or its folder [default: bytes].")
]
Virtual = Annotated[bool, typer.Option("--virtual", help="Simulate in virtual time, without processes.")]
Links = Annotated[str | None, typer.Option(help="With --virtual: lan, wan or mixed [default: by the seed].")]
Seeds = Annotated[str | None, typer.Option(help="With --virtual: many seeds, A:B for those from A to B - 1.")]
Jobs = Annotated[int | None, typer.Option(help="With --seeds: processes [default: one for each core].")]
Founders = Annotated[int | None, typer.Option(help="Members that must come together to found the run.")]


@app.command()
def node(
    config: ConfigFile = None,
    name: Name = None,
    host: Host = None,
    port: Port = None,
    dht_port: DhtPort = None,
    announce_host: AnnounceHost = None,
    bootstrap_peers: Bootstrap = None,
    found: Found = None,
    state_dir: StateDir = None,
    key_file: KeyFile = None,
    device: Device = None,
    threads: Threads = None,
    local_world_size: LocalWorldSize = None,
    rounds: LastRound = None,
    model: Model = None,
    inner_steps: InnerSteps = None,
    fragments: Fragments = None,
    batch_size: BatchSize = None,
    codec: CodecName = None,
    seed: Seed = None,
    min_peers: MinPeers = None,
    founders: Founders = None,
    quiet: Quiet = False,
) -> None:
    """Run one node: find the swarm, fetch its state, train and average until told to stop.

    Options override the environment (SWARM_NODE__PORT=7400, SWARM_RUN__MODEL=demo, ...), which overrides the file.
    """
    own = {
        "name": name,
        "host": host,
        "port": port,
        "dht_port": dht_port,
        "announce_host": announce_host,
        "bootstrap_peers": _joined(bootstrap_peers),
        "found": found,
        "state_dir": state_dir,
        "key_file": key_file,
        "device": device,
        "threads": threads,
        "local_world_size": local_world_size,
        "rounds": rounds,
        "quiet": quiet or None,
    }
    shared = _run_options(model, inner_steps, batch_size, codec, seed)
    shared |= {"min_peers": min_peers, "founders": founders, "fragments": fragments}
    _run_node(_load(config, {"node": own, "run": shared}))


@app.command()
def bootstrap(
    config: ConfigFile = None,
    host: Host = None,
    port: DhtPort = None,
    bootstrap_peers: Bootstrap = None,
    state_dir: StateDir = None,
) -> None:
    """Run a DHT node only, an address where others find each other. It does not train.

    Prints its multiaddrs, one a line: give them to other nodes as --bootstrap-peers. Its state is kept in the folder
    `bootstrap` of the state directory, so that the addresses stay the same.
    """
    own = {
        "host": host,
        "dht_port": port,
        "bootstrap_peers": _joined(bootstrap_peers),
        "state_dir": state_dir,
    }
    settings = _load(config, {"node": own})

    from swarm.state_dir import claimed

    with claimed(settings.node.state_dir / "bootstrap") as path:
        from swarm.bootstrap import serve

        serve(settings.node, path)


@app.command()
def simulate(
    nodes: Annotated[int, typer.Option(help="Nodes that found the run.")] = 4,
    rounds: Annotated[int | None, typer.Option(help="Rounds to commit [default: 10; with [chaos]: no limit].")] = None,
    inner_steps: InnerSteps = None,
    fragments: Fragments = None,
    codec: CodecName = None,
    join_at: Annotated[int | None, typer.Option(help="One more node starts after this round (0: none).")] = None,
    leave_at: Annotated[int | None, typer.Option(help="The last node leaves after this round (0: none).")] = None,
    kill_at: Annotated[int | None, typer.Option(help="The second node is killed after this round.")] = None,
    faults: Annotated[Path | None, typer.Option(help="A fault script (TOML); or, with --virtual, a mix.")] = None,
    virtual: Virtual = False,
    links: Links = None,
    seeds: Seeds = None,
    jobs: Jobs = None,
    seed: Seed = None,
    model: Model = None,
    batch_size: BatchSize = None,
    device: Device = None,
    config: ConfigFile = None,
    report: Annotated[Path, typer.Option(help="Folder for report.json, loss.png and the trained checkpoint.")] = Path(
        "report"
    ),
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also a lone node and data parallel, same tokens.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the nodes' state, logs and configurations.")] = False,
) -> None:
    """Run a swarm of real nodes on this machine, with a node that joins and one that leaves.

    Without --join-at, --leave-at, --kill-at and --faults a node joins after a third of the rounds and one leaves after
    two thirds. Ends with status 1 if members ever disagree, a round is lost, or a node dies that should not.

    With --virtual no node is started and nothing is trained: the same protocol runs in virtual time, with many nodes
    and seeded faults (--faults none, churn, partitions or chaos), and every rule is checked at every step.
    """
    if virtual:
        with interrupt_ends_at_once():
            from swarm.simulate.virtual.command import simulate as simulate_virtually

        mix = str(faults or "none")
        raise typer.Exit(simulate_virtually(nodes, rounds, mix, links, seed, seeds, jobs, fragments or 1))
    run = _run_options(model, inner_steps, batch_size, codec, seed) | {"fragments": fragments}
    options = {"run": run, "node": {"device": device}}
    settings = _load(config, options)

    from swarm.simulate.command import scenario_of, simulate

    scenario = scenario_of(settings, nodes, rounds, join_at, leave_at, kill_at, faults)
    raise typer.Exit(simulate(scenario, report, baseline=baseline, keep=keep))


@app.command()
def status(
    address: Annotated[
        str | None, typer.Argument(help="HOST:PORT of a node [default: the one on this machine].")
    ] = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Ask a running node how it is, over a real authenticated channel. Status 1 if nothing answers within 5 s."""
    settings = _load(config, {})

    from swarm.status import show_status

    here = "127.0.0.1" if settings.node.host in ("0.0.0.0", "::") else settings.node.host
    show_status(address or f"{here}:{settings.node.port}", as_json=as_json)


@app.command()
def audit(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="State directories, or folders of them [default: the node's own].")
    ] = None,
    one_lineage: Annotated[bool, typer.Option("--one-lineage", help="Status 1 also where histories part.")] = False,
) -> None:
    """Prove from the records on disk that the run's history is whole and that no sample was committed twice or lost.

    Records of several nodes are compared as well. Changes nothing; a node may be running there. Status 1 if anything
    is wrong: the first fault is named. Histories that part, as after a partition of the network, are named too.
    """
    from swarm.audit import audit as prove

    raise typer.Exit(prove(folders or [_load(None, {}).node.state_dir], one_lineage=one_lineage))


app.add_typer(data, name="data")


@app.command()
def why(
    logs: Annotated[
        list[Path] | None, typer.Argument(help="State directories, folders of them, or event files [default: own].")
    ] = None,
    round: Annotated[int | None, typer.Option("--round", "-r", help="Which round [default: the newest].")] = None,
) -> None:
    """Tell the story of a round: who was in it, each attempt and why it began, who was lost and how that was noticed.

    From the event logs of one or several nodes, of running ones, too. Better with the logs of all: only a coordinator
    knows why it opened an attempt. Times are seconds since each node began the round; clocks may differ.
    """
    from swarm.why.command import why as tell

    tell(logs or [_load(None, {}).node.events_path], round)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A checkpoint's folder, or a node's state directory for its newest.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")],
    precision: Annotated[Precision, typer.Option(help="How values are stored.")] = Precision.float32,
    tokenizer: TokenizerFile = None,
    shard_gb: Annotated[float, typer.Option(help="Most gigabytes in one file.", min=0.001)] = 5.0,
) -> None:
    """Write a checkpoint as transformers.AutoModelForCausalLM.from_pretrained loads it, tokenizer and all."""
    from swarm.export.command import export as write

    write(source, out, precision=precision.value, tokenizer=tokenizer, shard_bytes=round(shard_gb * 1e9))


@app.command()
def generate(
    source: Annotated[Path, typer.Argument(help="A checkpoint, a node's state directory, or an exported model.")],
    prompt: Annotated[str, typer.Option(help="The text to continue.")],
    tokens: Annotated[int, typer.Option(help="Most tokens to add.", min=1)] = 200,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.", min=0.0)] = 0.7,
    top_p: Annotated[float, typer.Option(help="Pick among the likeliest that make up this share.", min=0.0)] = 0.95,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    device: Device = None,
    tokenizer: TokenizerFile = None,
) -> None:
    """Let a model continue a text, and print it as it comes."""
    from swarm.generate.command import generate as write

    write(
        source,
        prompt,
        tokens=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        device=device or "cpu",
        tokenizer=tokenizer,
    )


@app.command()
def keygen(path: Annotated[Path | None, typer.Argument(help="Key file [default: the node's].")] = None) -> None:
    """Print the peer id of a key file; make the file first if it is not there."""
    target = path or _load(None, {}).node.key_path

    from p2p.identity import Identity

    typer.echo(Identity.load_or_create(target.expanduser()).peer_id)


def _run_node(settings: Config) -> NoReturn:
    """As one process, or as one of those that torchrun has started for the node."""
    from swarm.launch import as_launched, launch_of
    from swarm.restart import START_AGAIN, start_again
    from swarm.state_dir import claimed

    began, launch = time.monotonic(), launch_of(os.environ)
    settings = as_launched(settings, launch)
    if launch is not None and launch.rank > 0:
        from swarm.train.ranks.launcher import follow_launch

        follow_launch(launch)
    with claimed(settings.node.state_dir):
        from swarm import node as program

        status = program.main(settings)
        if status == START_AGAIN and launch is None:
            start_again(time.monotonic() - began)
        _end_process(status)


def _end_process(status: int) -> NoReturn:
    """Exit at once: taking a torch process apart object by object takes seconds, and others wait for its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Entry point: whatever a person can do something about is one line on standard error, and status 1."""
    try:
        app()
    except SwarmError as error:
        for line in str(error).splitlines():
            typer.echo(f"swarm: {line}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # to end an interpreter that is ending anyway needs no traceback


def _load(file: Path | None, options: Mapping[str, Mapping[str, Any]]) -> Config:
    from swarm.config_load import load_config

    return load_config(file, os.environ, options)


def _run_options(
    model: str | None, inner_steps: int | None, batch_size: int | None, codec: str | None, seed: int | None
) -> dict[str, Any]:
    return {"model": model, "inner_steps": inner_steps, "batch_size": batch_size, "codec": codec, "seed": seed}


def _joined(values: list[str] | None) -> str | None:
    """A repeated option as one list with commas; an option not given is None."""
    return ",".join(values) if values else None
