"""The command line of `swarm data`. Commands import what they need when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    help="Turn text into training data, and look at what came of it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Place = Annotated[str, typer.Argument(metavar="FOLDER", help="Prepared data: a folder, or its address.")]


@app.command()
def prepare(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders, patterns, addresses, or hf:OWNER/NAME of a Hugging Face data set."),
    ],
    tokenizer: Annotated[
        str, typer.Option(help="bytes, a tokenizer.json (or its folder), or OWNER/NAME of a Hugging Face model.")
    ] = "bytes",
    field: Annotated[str, typer.Option(help="Where JSONL, Parquet and Hugging Face rows have the text.")] = "text",
    format: Annotated[
        Literal["auto", "text", "jsonl", "parquet"], typer.Option(help="auto: by the ending of the name.")
    ] = "auto",
    separator: Annotated[
        str | None, typer.Option(help=r"What stands between the documents of a text file (\n and \t are understood).")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0, max=0.5, help="Share of the documents never trained on.")] = 0.005,
    bos: Annotated[str | None, typer.Option(help="Token that begins a document [default: the tokenizer's].")] = None,
    eos: Annotated[str | None, typer.Option(help="Token that ends a document [default: the tokenizer's].")] = None,
    shard_tokens: Annotated[int, typer.Option(min=1, help="Tokens after which a new shard begins.")] = 1 << 27,
    split: Annotated[str, typer.Option(help="Split of a Hugging Face data set.")] = "train",
    subset: Annotated[str | None, typer.Option(help="Subset (configuration) of a Hugging Face data set.")] = None,
) -> None:
    """Make shards of tokens from text, JSONL, Parquet or a Hugging Face data set, all or nothing.

    The same inputs and options give the same digest on every machine. Name the folder in the run's data, as in
    `data = "fineweb-edu:55, my-text:45"`, and its parent as data_dir. Compressed files (.gz, .bz2, .xz) are read too.
    """
    from swarm.data.command import prepare_data
    from swarm.data.documents import Inputs

    if separator is not None:
        separator = separator.replace(r"\n", "\n").replace(r"\t", "\t")
    prepare_data(
        folder,
        Inputs(tuple(inputs), format, field, separator, split, subset),
        tokenizer,
        bos,
        eos,
        held_out,
        shard_tokens,
    )


@app.command()
def inspect(
    folder: Place,
    document: Annotated[int | None, typer.Option(min=0, help="Show the training document with this number.")] = None,
) -> None:
    """Show what a folder of prepared data holds: counts, tokenizer, digest, and the beginning of some documents."""
    from swarm.data.command import inspect_data

    inspect_data(folder, document)


@app.command()
def verify(folder: Place) -> None:
    """Check every byte against the manifest. Status 1 if anything differs."""
    from swarm.data.command import verify_data

    verify_data(folder)
