"""`swarm generate`: opens a checkpoint or an exported model and continues a text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from ops.layout import FlatLayout
from p2p.errors import SwarmError
from swarm.checkpoint.source import model_layout, read_parameters
from swarm.export.read import HuggingFaceFolder
from swarm.generate.sample import continuation
from swarm.generate.text import tokenizer_for
from swarm.model.decode import Decoder
from swarm.model.llama import Llama
from swarm.model.sizes import ModelConfig


class NothingToContinue(SwarmError):
    """An empty prompt."""


@dataclass(frozen=True)
class Opened:
    """A model, and where it came from."""

    model: Llama
    folder: Path
    context: int
    eos: int | None


def generate(
    source: Path,
    prompt: str,
    *,
    tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    device: str = "cpu",
    tokenizer: Path | None = None,
) -> None:
    """Print the prompt and what follows it, as it comes. Raises SwarmError."""
    opened = open_model(source, device)
    words = tokenizer_for(opened.folder, opened.model.config.vocab, opened.eos, tokenizer)
    begin = words.encode(prompt)
    if not begin:
        raise NothingToContinue("the prompt is empty: give some text to --prompt")
    found = continuation(
        Decoder(opened.model),
        begin,
        context=opened.context,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=words.eos,
    )
    sys.stdout.write(prompt)
    for text in words.stream(islice(found, tokens)):
        sys.stdout.write(text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def open_model(source: Path, device: str = "cpu") -> Opened:
    """From a checkpoint, a node's state directory, or a folder in Hugging Face's form. Raises SwarmError."""
    if (source / "config.json").is_file():
        exported = HuggingFaceFolder(source)
        layout = model_layout(exported.model)
        model = filled(exported.model, layout, torch.from_numpy(exported.theta(layout)), device)
        eos = exported.config.get("eos_token_id")
        return Opened(model, source, exported.context or 2048, eos if isinstance(eos, int) else None)
    found = read_parameters(source, _warn)
    model = filled(found.model, found.layout, torch.from_numpy(found.theta_P), device)
    return Opened(model, found.path, found.context, None)


def filled(config: ModelConfig, layout: FlatLayout, theta_P: torch.Tensor, device: str) -> Llama:
    with torch.device("meta"):
        model = Llama(config)
    values = {entry.name: theta_P[entry.start : entry.stop].view(entry.shape) for entry in layout.entries}
    model.load_state_dict(values, assign=True)
    return model.to(device).eval()


def _warn(path: Path, reason: str) -> None:
    sys.stderr.write(f"swarm: checkpoint {path} passed over: {reason}\n")
