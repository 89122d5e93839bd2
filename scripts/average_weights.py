"""The weighted mean of checkpoints of one network from the same training trajectory.

    python -m scripts.average_weights 0.3=runs/first 0.7=runs/second -o averaged.safetensors

Weights between those of a training and of its fine-tuning can be better than both on images unlike the training data:
Wortsman et al., "Robust fine-tuning of zero-shot models" (2022), https://arxiv.org/abs/2109.01903. The shipped weights
are such a mean (docs/model.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from colorize.errors import UsageError
from colorize.models.checkpoint import LoadedCheckpoint, dump_checkpoint, load_checkpoint
from colorize.predict.model_files import find_model


def average(checkpoints: Sequence[LoadedCheckpoint], parts: Sequence[float]) -> LoadedCheckpoint:
    """The first checkpoint with the mean of all weights; the fractions are normalized to a sum of 1.

    Raises:
        UsageError: they are of different networks.
    """
    first = checkpoints[0]
    if any((one.name, one.args) != (first.name, first.args) for one in checkpoints):
        raise UsageError(f"different networks: {', '.join(f'{one.name} {one.args}' for one in checkpoints)}")
    states = [one.model.state_dict() for one in checkpoints]
    mean = {
        name: sum(part / sum(parts) * state[name] for part, state in zip(parts, states, strict=True))
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    first.model.load_state_dict(mean)
    return first


def main(
    weighted: Annotated[
        list[str], typer.Argument(metavar="PART=MODEL...", help="weight and checkpoint, as 0.5=runs/a")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="the checkpoint to write, in half precision")],
) -> None:
    """Averages checkpoints."""
    parts, names = zip(*(word.split("=", 1) for word in weighted), strict=True)
    averaged = average([load_checkpoint(find_model(name).data) for name in names], [float(part) for part in parts])
    output.write_bytes(dump_checkpoint(averaged.model, name=averaged.name, args=averaged.args, dtype=torch.float16))


if __name__ == "__main__":
    typer.run(main)
