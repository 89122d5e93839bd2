"""Fine-tuning of the published networks: `model.weights` and their recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from colorize.models import create_model, published_models
from colorize.models.checkpoint import dump_checkpoint
from colorize.settings import load_settings
from colorize.train.settings import TrainSettings
from colorize.train.step import create_state, step
from tests.small_models import SMALL_ARGS

CONFIGS = Path(__file__).parents[2] / "configs/train"


@pytest.mark.parametrize("name", published_models())
def test_training_starts_from_pretrained_weights_and_changes_them(name: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    started = create_model(name, **SMALL_ARGS[name])
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(dump_checkpoint(started, name=name, args=SMALL_ARGS[name]))
    settings = load_settings(
        TrainSettings,
        CONFIGS / f"{name}.yaml",
        [f"model.weights={weights}", f"model.args={json.dumps(SMALL_ARGS[name])}", "trainer.sizes=[32]",
         "optimizer.warmup=0", "precision=float32"],
    )  # fmt: skip
    state = create_state(settings)
    before = started.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in state.model.state_dict().items())

    losses = step(state, torch.rand(2, 3, 40, 40))
    assert losses["loss"].isfinite()
    assert any(not torch.equal(value, before[key]) for key, value in state.model.named_parameters())


def test_recipes_use_the_published_weight_decay() -> None:
    """Weight decay is part of the gradient in `adam`, as in Caffe, but not in `adamw`."""
    optimizers = {name: load_settings(TrainSettings, CONFIGS / f"{name}.yaml").optimizer for name in published_models()}
    assert {name: (optimizer.name, optimizer.weight_decay) for name, optimizer in optimizers.items()} == {
        "ddcolor_large": ("adamw", 0.01),
        "ddcolor_tiny": ("adamw", 0.01),
        "eccv16": ("adam", 0.001),
        "siggraph17": ("adam", 0.0),
    }
