"""Training of the classic approaches: losses, optimizers, palettes, adversarial training, accuracies."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from colorize.errors import UsageError
from colorize.imaging.color import grey_to_lightness, luma, rgb_to_lab
from colorize.models import create_model, list_models, published_models
from colorize.models.checkpoint import load_checkpoint
from colorize.models.palette_cnn import PaletteCnn
from colorize.predict.torch_network import torch_colorizer
from colorize.settings import load_settings
from colorize.train import accuracy
from colorize.train.adversarial import noise_in_epoch, train_discriminator
from colorize.train.objectives import DISTANCES, create_objective
from colorize.train.optimizers import create_optimizer
from colorize.train.settings import (
    AdversarialSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
)
from colorize.train.single import train_alone
from colorize.train.step import (
    TrainState,
    compile_objective,
    create_state,
    finalize_average,
    rgb_pair,
    set_learning_rate,
    step,
)
from tests.images import labeled_archive
from tests.small_models import SMALL_ARGS

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
SMALLER = {  # for speed
    **{
        name: [
            f"model.args={json.dumps(SMALL_ARGS[name])}",
            "trainer.sizes=[32]",
            "validation.size=64",
            "data.short_side=32",
            "optimizer.learning_rate=0.01",  # from scratch
            "optimizer.warmup=0",
        ]
        for name in published_models()
    },
    "gan": [
        "model.args={width: 8, canvas: 32}",
        "trainer.sizes=[32]",
        "validation.size=32",
        "data.short_side=32",
        "adversarial.width=8",
    ],
    "unet": [
        "model={name: unet, args: {widths: [16, 16, 16], context: 32, context_blocks: 1, grid: 20.0}}",
        "trainer.sizes=[32]",
        "validation.size=64",
    ],
}


def recipe(name: str, *overrides: str) -> TrainSettings:
    """The network's recipe, reduced for speed."""
    return load_settings(TrainSettings, CONFIGS / f"{name}.yaml", [*SMALLER.get(name, []), *overrides])


@pytest.fixture
def rgb() -> Tensor:
    """Smooth colorful images (4, 3, 96, 96)."""
    coarse = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (96, 96), mode="bilinear")


class TestConfigurations:
    def test_every_model_has_one_and_every_one_has_a_model(self) -> None:
        assert sorted(file.stem for file in CONFIGS.glob("*.yaml")) == list_models()

    @pytest.mark.parametrize("name", list_models())
    def test_it_trains_its_own_model(self, name: str, rgb: Tensor) -> None:
        settings = recipe(name)
        state = create_state(settings)
        losses = step(state, rgb)
        assert settings.model.name == name
        assert all(value.isfinite() for value in losses.values())

    @pytest.mark.slow
    @pytest.mark.parametrize("name", [n for n in list_models() if n != "unet"])
    def test_a_few_steps_overfit_a_batch(self, name: str, rgb: Tensor) -> None:
        state = create_state(recipe(name, "precision=float32"))
        history = [float(step(state, rgb)["loss"]) for _ in range(8)]
        assert min(history[4:]) < history[0]

    def test_an_unsupported_input_size_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"set them to \[32\] and 32"):
            create_state(recipe("dense", "trainer.sizes=[64]"))


class TestLosses:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("mse", (0.3**2 + 0.5**2) / 2),
            ("msle", (math.log(1.5 / 1.2) ** 2 + math.log(1.5 / 2) ** 2) / 2),
            ("l1", (0.3 + 0.5) / 2),
            ("bce", -(0.2 * math.log(0.5) + 0.8 * math.log(0.5) + math.log(0.5)) / 2),
            ("huber", (0.3**2 + 0.5**2) / 4),
        ],
    )
    def test_distances_match_their_names(self, name: str, expected: float) -> None:
        predicted, true = torch.tensor([0.5, 0.5]), torch.tensor([0.2, 1.0])
        assert float(DISTANCES[name](predicted, true)) == pytest.approx(expected, rel=1e-5)

    def test_ab_is_compared_in_units_of_128(self) -> None:
        model, L = create_model("lab_cnn").eval(), torch.full((1, 1, 8, 8), 50.0)
        losses = create_objective(model, LossSettings(name="mse"))(L, model(L) + 64)
        assert losses["loss"].item() == pytest.approx(0.25)

    def test_the_initial_cross_entropy_of_four_colors_is_log_4(self) -> None:
        model = PaletteCnn()
        for parameter in model.layers[-1].parameters():
            torch.nn.init.zeros_(parameter)
        losses = create_objective(model, LossSettings())(torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32))
        assert losses["loss"].item() == pytest.approx(math.log(4))

    @pytest.mark.parametrize(
        ("model", "loss"), [("lab_cnn", "bce"), ("palette_cnn", "mse"), ("dense", "cross_entropy"), ("unet", "l1")]
    )
    def test_one_that_does_not_fit_the_network_is_refused(self, model: str, loss: str) -> None:
        with pytest.raises(UsageError, match=f"loss.name={loss}: .* can be trained on auto"):
            create_objective(create_model(model), LossSettings.model_validate({"name": loss}))


class TestOptimizers:
    @pytest.mark.parametrize(
        ("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("rmsprop", "RMSprop"), ("adadelta", "Adadelta")]
    )
    def test_optimizers_match_their_names_and_descend(self, name: str, kind: str, rgb: Tensor) -> None:
        state = create_state(recipe("lab_cnn", f"optimizer.name={name}"))
        before = [p.clone() for p in state.model.parameters()]
        step(state, rgb)
        assert type(state.optimizer).__name__ == kind
        assert not any(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))

    def test_those_of_keras_have_its_decay_rates(self) -> None:
        rmsprop, adadelta = (
            create_optimizer(create_model("lab_cnn"), OptimizerSettings.model_validate({"name": name}))
            for name in ("rmsprop", "adadelta")
        )
        assert (rmsprop.defaults["alpha"], adadelta.defaults["rho"]) == (0.9, 0.95)

    def test_the_rate_can_be_constant(self) -> None:
        state = create_state(recipe("lab_cnn"))
        rates = []
        for state.progress in (0.0, 0.5, 1.0):
            rates.append(set_learning_rate(state))
        assert rates == [3e-4] * 3

    @pytest.mark.slow
    def test_a_compiled_step_learns_the_same(self, rgb: Tensor) -> None:
        losses = []
        for compile_ in ("false", "true"):
            small = ["model.args={widths: [8, 8, 8], dropout: 0.0, canvas: 32}", f"trainer.compile={compile_}"]
            settings = load_settings(TrainSettings, CONFIGS / "lab_cnn.yaml", small)
            state = create_state(settings)
            state.objective = compile_objective(state.objective, settings)
            losses.append([float(step(state, rgb)["loss"]) for _ in range(3)])
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)

    def test_without_averaging_the_last_weights_are_kept(self, rgb: Tensor) -> None:
        state = create_state(recipe("bn_conv_dense"))
        step(state, rgb)
        finalize_average(state)
        ours, theirs = state.average.state_dict(), state.model.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


class TestPairs:
    def test_without_augmentation_images_are_as_they_are(self, rgb: Tensor) -> None:
        L, target = rgb_pair(rgb[..., :32, :32], 32, 32, recipe("dense"))
        torch.testing.assert_close(target, rgb[..., :32, :32], atol=1e-4, rtol=0)
        torch.testing.assert_close(L, grey_to_lightness(luma(target)), atol=1e-2, rtol=0)

    def test_an_upsampling_network_has_targets_of_three_times_its_input(self, rgb: Tensor) -> None:
        L, target = rgb_pair(rgb, 32, 2, recipe("superres_cnn"), enlarges=3)
        assert (L.shape, target.shape) == ((4, 1, 32, 32), (4, 3, 96, 96))
        torch.testing.assert_close(target, rgb, atol=1e-4, rtol=0)


class TestAdversary:
    @pytest.fixture
    def state(self) -> TrainState:
        return create_state(recipe("gan", "precision=float32"))

    def discriminator(self, state: TrainState) -> list[Tensor]:
        assert state.adversary is not None
        return [p.clone() for p in state.adversary.discriminator.parameters()]

    def test_the_loss_is_the_deception_plus_75_times_the_distance(self, state: TrainState, rgb: Tensor) -> None:
        losses = state.objective(*pair(rgb))
        expected = losses["deception"] + 75 * losses["distance"]
        torch.testing.assert_close(losses["loss"].detach(), expected)

    def test_fooling_the_discriminator_lowers_the_loss(self, state: TrainState, rgb: Tensor) -> None:
        """The labels are flipped: a discriminator that accepts everything costs nothing."""
        assert state.adversary is not None
        verdict: torch.nn.Linear = state.adversary.discriminator.verdict  # type: ignore[assignment]
        torch.nn.init.constant_(verdict.bias, 50.0)
        assert float(state.objective(*pair(rgb))["deception"]) == pytest.approx(0, abs=1e-3)
        torch.nn.init.constant_(verdict.bias, -50.0)
        assert float(state.objective(*pair(rgb))["deception"]) == pytest.approx(50, rel=0.1)

    def test_the_generators_step_leaves_the_discriminator_alone(self, state: TrainState, rgb: Tensor) -> None:
        state.objective(*pair(rgb))["loss"].backward()
        assert state.adversary is not None
        assert all(p.grad is None for p in state.adversary.discriminator.parameters())
        assert all(p.grad is not None for p in state.model.parameters())

    @pytest.mark.parametrize(("limit", "trained"), [(0.95, False), (1.0, True)])
    def test_a_discriminator_above_the_accuracy_limit_is_not_trained(
        self, rgb: Tensor, limit: float, trained: bool
    ) -> None:
        state = create_state(recipe("gan", "precision=float32", f"adversarial.max_accuracy={limit}"))
        adversary, (L, ab) = state.adversary, pair(rgb)
        assert adversary is not None
        adversary.discriminator.forward = lambda lab: weigh(adversary.discriminator, lab)
        before = self.discriminator(state)
        losses = train_discriminator(adversary, L, torch.zeros_like(ab), ab, noise=0.0)
        changed = not all(torch.equal(a, b) for a, b in zip(before, self.discriminator(state), strict=True))
        assert float(losses["discriminator_accuracy"]) == 1
        assert (changed, bool(losses["discriminator_trained"])) == (trained, trained)

    def test_noise_comes_in_every_fifth_epoch(self) -> None:
        settings = AdversarialSettings(noise=0.1, noise_every=5)
        assert [noise_in_epoch(epoch, settings) > 0 for epoch in range(1, 11)] == ([False] * 4 + [True]) * 2

    def test_it_resumes_exactly(self, state: TrainState, rgb: Tensor) -> None:
        step(state, rgb)
        resumed = create_state(recipe("gan", "precision=float32", "seed=3"))
        resumed.load_state_dict(state.state_dict())
        assert all(
            torch.equal(a, b) for a, b in zip(self.discriminator(state), self.discriminator(resumed), strict=True)
        )

    def test_rgb_networks_have_none(self) -> None:
        with pytest.raises(UsageError, match="set adversarial=null"):
            create_state(recipe("dense", "adversarial={}"))


def pair(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """L and ab of 32 x 32 pixels."""
    lab = rgb_to_lab(rgb[..., :32, :32])
    return lab[:, :1], lab[:, 1:]


def weigh(discriminator: torch.nn.Module, lab: Tensor) -> Tensor:
    """Separates colored from grey images, by a trainable parameter."""
    bias: Tensor = discriminator.verdict.bias  # type: ignore[union-attr, assignment]
    return torch.where(lab[:, 1:].abs().amax(dim=(1, 2, 3)) > 0, 1.0, -1.0) + 0 * bias + 0.01 * bias.tanh()


class TestAccuracy:
    def test_channel_accuracy_counts_pixels(self) -> None:
        predicted = torch.tensor([[3.0, 0.0], [1.0, 2.0], [0.0, 1.0]]).reshape(1, 3, 1, 2)
        true = torch.tensor([[9.0, 1.0], [0.0, 1.0], [0.0, 5.0]]).reshape(1, 3, 1, 2)
        assert float(accuracy.channel_accuracy(predicted, true)) == 0.5

    def test_value_accuracy_counts_images(self) -> None:
        predicted = torch.zeros(2, 3, 2, 2)
        predicted[:, 1, 0, 1] = 1
        true = predicted.clone()
        true[1, 2, 1, 1] = 2
        assert float(accuracy.value_accuracy(predicted, true)) == 0.5

    def test_palette_accuracy_counts_pixels_of_the_right_color(self) -> None:
        model, rgb = PaletteCnn(), torch.rand(2, 3, 32, 32)
        L = grey_to_lightness(luma(rgb))
        expected = (model.logits(L).argmax(dim=1) == model.classify(rgb)).float().mean()
        assert float(accuracy.pixel_accuracy(model, L, rgb)) == pytest.approx(float(expected))

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("unet", set()),
            ("lab_cnn", {"mse", "channel_accuracy"}),
            ("superres_cnn", {"mse", "channel_accuracy", "value_accuracy"}),
            ("palette_cnn", {"mse", "channel_accuracy", "value_accuracy", "pixel_accuracy"}),
        ],
    )
    def test_each_network_has_its_own_metrics(self, rgb: Tensor, name: str, found: set[str]) -> None:
        model = create_model(name).eval()
        assert accuracy.recorded_metrics(model, [rgb], 32).keys() == found == set(accuracy.recorded_names(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in list_models() if n != "unet"])
def test_a_run_trains_resumes_evaluates_and_colors(name: str, tmp_path: Path) -> None:
    archive = labeled_archive(tmp_path)
    short = ["trainer.batch_size=4", "trainer.epoch_steps=1", "validation.limit=4", "data.limit=8"]
    short += ["data.split={val: 0.2, test: 0.2}", "validation.test=true"]
    labels = ["data.labels=[bird]"] if name == "palette_cnn" else []
    settings = recipe(name, *short, *labels, "trainer.epochs=1")
    train_alone(settings, str(archive), str(tmp_path / "run"))
    longer = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"epochs": 2})})
    figures = train_alone(longer, str(archive), str(tmp_path / "run"), resume=True)

    best = load_checkpoint(tmp_path / "run" / "best.safetensors")
    (ab,) = torch_colorizer(best.model, precision="float32")([np.full((50, 70), 128, np.uint8)])
    assert (best.name, figures["epoch"]) == (name, 2)
    assert json.loads((tmp_path / "run/test.json").read_text())["psnr"] > 0
    assert np.isfinite(ab).all()


def test_the_best_epoch_is_chosen_by_a_metric(tmp_path: Path) -> None:
    settings = recipe("dense", "validation.best=pixel_accuracy", "trainer={epochs: 1, sizes: [32], epoch_steps: 1}")
    with pytest.raises(UsageError, match=r"validation\.best=pixel_accuracy: .* psnr_ab, .*, mse"):
        train_alone(settings, str(labeled_archive(tmp_path)), str(tmp_path / "run"))
