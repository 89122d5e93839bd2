"""Set-up of all tests of training."""

from __future__ import annotations

import pytest

from colorize.settings import load_settings
from colorize.train.settings import TrainSettings

TINY = [
    "model.args={widths: [16, 16, 16], context: 32, context_blocks: 1, grid: 20.0}",
    "trainer={epochs: 2, batch_size: 4, sizes: [32, 64], epoch_steps: 2}",
    "validation={size: 64, limit: 4, samples: 2}",
    "data.short_side=48",
]


@pytest.fixture
def settings() -> TrainSettings:
    return load_settings(TrainSettings, overrides=TINY)
