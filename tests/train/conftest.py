"""Set-up of all tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from colorize.settings import load_settings
from colorize.train.settings import TrainSettings

TINY = [
    "model.args={widths: [16, 16, 16], context: 32, context_blocks: 1, grid: 20.0}",
    "trainer={epochs: 2, batch_size: 4, sizes: [32, 64], epoch_steps: 2}",
    "validation={size: 64, limit: 4, samples: 2}",
    "data.short_side=48",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only make threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings() -> TrainSettings:
    return load_settings(TrainSettings, overrides=TINY)
