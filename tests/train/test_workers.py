"""Two data-parallel processes: reductions, gradients, palettes, the discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from colorize.imaging.color import rgb_to_lab
from colorize.train.adversarial import create_adversary, train_discriminator
from colorize.train.palette import fit_palette
from colorize.train.settings import AdversarialSettings, LossSettings, ModelSettings, TrainSettings
from colorize.train.step import TrainState, create_state
from colorize.train.workers import mean_over_workers, sum_over_workers

pytestmark = pytest.mark.slow  # two processes import torch

PIXELS = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
START = PIXELS[:4]
IMAGES = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
RECIPE = TrainSettings(
    model=ModelSettings(name="lab_cnn", args={"widths": [8, 16, 16], "dropout": 0.0}), loss=LossSettings(name="mse")
)


def work_together(rank: int, folder: str) -> None:
    """One of two workers, with its half of the data."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    half = PIXELS.chunk(2)[rank]
    found = {
        "sum": sum_over_workers(torch.tensor([rank + 1.0])),
        "mean": mean_over_workers(torch.tensor([rank + 1.0])),
        "palette": fit_palette(half.chunk(3), START, iterations=20),
        "discriminator": trained_discriminator(rank),
        "gradient": shared_gradient(IMAGES.chunk(2)[rank]),
    }
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def shared_gradient(rgb: torch.Tensor) -> torch.Tensor:
    state = create_state(RECIPE)
    state.objective = DistributedDataParallel(state.objective)
    return gradient(state, rgb)


def gradient(state: TrainState, rgb: torch.Tensor) -> torch.Tensor:
    """All gradients as one vector."""
    lab = rgb_to_lab(rgb)
    state.objective(lab[:, :1], lab[:, 1:])["loss"].backward()
    return torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])


def trained_discriminator(rank: int) -> torch.Tensor:
    """Its parameters as one vector, after a step on different images per worker."""
    torch.manual_seed(0)
    adversary = create_adversary(AdversarialSettings(width=4, max_accuracy=1.0), "cpu")
    torch.manual_seed(rank)
    L, true = torch.rand(2, 1, 16, 16) * 100, torch.randn(2, 2, 16, 16) * 40
    train_discriminator(adversary, L, torch.zeros_like(true), true, noise=0.1)
    return torch.cat([p.detach().flatten() for p in adversary.discriminator.parameters()])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("workers")
    spawn(work_together, args=(str(folder),), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_all_reduce_gives_every_worker_the_sum_and_mean(found: list[dict[str, torch.Tensor]]) -> None:
    assert [(one["sum"].item(), one["mean"].item()) for one in found] == [(3, 1.5)] * 2


def test_two_workers_fit_the_same_palette_as_one(found: list[dict[str, torch.Tensor]]) -> None:
    alone = fit_palette([PIXELS], START, iterations=20)
    for one in found:
        torch.testing.assert_close(one["palette"], alone, atol=1e-5, rtol=0)


def test_discriminators_stay_in_sync(found: list[dict[str, torch.Tensor]]) -> None:
    torch.testing.assert_close(found[0]["discriminator"], found[1]["discriminator"], atol=1e-6, rtol=0)


def test_reductions_do_nothing_in_one_process() -> None:
    value = torch.tensor([1.0, 2.0])
    assert torch.equal(sum_over_workers(value), value)
    assert torch.equal(mean_over_workers(value), value)


def test_two_half_batches_have_the_gradient_of_the_whole(found: list[dict[str, torch.Tensor]]) -> None:
    """1 x 64 and 2 x 32 images; the network has no statistics of its batch, which would differ."""
    alone = gradient(create_state(RECIPE), IMAGES)
    for one in found:
        torch.testing.assert_close(one["gradient"], alone, atol=1e-6, rtol=1e-4)
