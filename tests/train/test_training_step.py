"""A training step: augmentation, losses, optimizer, averages, state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from colorize.errors import UsageError
from colorize.imaging.color import grey_to_lightness, luma, rgb_to_lab
from colorize.models import ColorModel, create_model
from colorize.models.checkpoint import dump_checkpoint
from colorize.models.unet import gamut_bins
from colorize.train import augment, losses
from colorize.train.initial import initial_network
from colorize.train.metric_averager import MetricAverager
from colorize.train.settings import AugmentSettings, ModelSettings, TrainSettings
from colorize.train.step import create_state, current_size, set_learning_rate, step, training_pair
from colorize.train.validation import validate

CLEAN = AugmentSettings(
    min_area=1.0, p_flip=0, p_spectrum=0, p_blur=0, p_gamma=0, p_fade=0, p_shade=0, p_grain=0, p_scratches=0
)


@pytest.fixture
def rgb() -> torch.Tensor:
    """Smooth colorful images (4, 3, 64, 64)."""
    torch.manual_seed(0)
    coarse = torch.rand(4, 3, 4, 4)
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


class TestAugment:
    def test_disabled_augmentation_changes_nothing(self, rgb: torch.Tensor) -> None:
        crops = augment.random_crops(rgb, (64, 64), CLEAN)
        assert (crops - rgb).abs().mean() < 0.02  # except for the slight stretch
        for grey in augment.scanned_grey(rgb, CLEAN):
            torch.testing.assert_close(grey, luma(rgb))

    def test_crops_have_the_requested_shape(self, rgb: torch.Tensor) -> None:
        assert augment.random_crops(rgb, (32, 96), AugmentSettings()).shape == (4, 3, 32, 96)

    def test_flips_mirror(self, rgb: torch.Tensor) -> None:
        mirrored = augment.random_crops(rgb, (64, 64), CLEAN.model_copy(update={"p_flip": 1.0}))
        assert (mirrored - rgb.flip(3)).abs().mean() < 0.02

    @pytest.mark.parametrize("name", [n for n in AugmentSettings.model_fields if n not in ("min_area", "p_flip")])
    def test_each_degradation_changes_the_grey_within_its_range(self, rgb: torch.Tensor, name: str) -> None:
        grey, _ = augment.scanned_grey(rgb, CLEAN.model_copy(update={name: 1.0}))
        assert grey.shape == (4, 1, 64, 64)
        assert 0 <= grey.min() <= grey.max() <= 1
        assert not torch.allclose(grey, luma(rgb), atol=1e-3)

    def test_a_seed_repeats_it(self, rgb: torch.Tensor) -> None:
        pairs = []
        for _ in range(2):
            torch.manual_seed(3)
            pairs.append(augment.scanned_grey(rgb, AugmentSettings())[0])
        assert torch.equal(*pairs)

    @pytest.mark.parametrize(
        ("sides", "shape"), [((128, 128), (256, 256)), ((100, 300), (160, 448)), ((1, 99), (32, 2560))]
    )
    def test_a_canvas_preserves_aspect_and_area(self, sides: tuple[int, int], shape: tuple[int, int]) -> None:
        assert augment.canvas_shape(sides, 256, 32) == shape


class TestLosses:
    def test_soft_targets_average_to_their_color(self) -> None:
        bins = gamut_bins(10.0)
        color = torch.tensor([12.0, -8.0]).reshape(1, 2, 1, 1)
        target = losses.soft_targets(bins, 5, 5.0)[losses.cell_index(color)][0, 0, 0]
        assert target.sum() == pytest.approx(1)
        assert (target > 0).sum() == 5
        torch.testing.assert_close(target @ bins, torch.tensor([12.0, -8.0]), atol=3, rtol=0)

    def test_an_out_of_range_color_is_assigned_to_the_nearest_bin(self) -> None:
        bins = gamut_bins(10.0)
        target = losses.soft_targets(bins, 1, 5.0)[losses.cell_index(torch.full((1, 2, 1, 1), 500.0))]
        assert target.isfinite().all()
        assert target.sum() == 1

    def test_rare_colors_weigh_more_and_the_mean_weight_is_one(self) -> None:
        prior = torch.tensor([90.0, 9.0, 1.0])
        weights = losses.rebalancing(prior, uniform=0.5, power=0.5)
        assert weights[0] < weights[1] < weights[2]
        assert (prior / 100 * weights).sum() == pytest.approx(1)
        assert losses.rebalancing(prior, 0.5, power=0.0).tolist() == pytest.approx([1, 1, 1])

    def test_colors_are_counted_in_the_nearest_bin(self) -> None:
        bins = torch.tensor([[0.0, 0.0], [50.0, 0.0]])
        ab = torch.tensor([[10.0, 40.0], [3.0, 0.0]]).reshape(1, 2, 1, 2)
        assert losses.count_bins(ab, bins).tolist() == [1, 1]


class TestStep:
    @pytest.mark.slow
    def test_it_overfits_one_batch(self, settings: TrainSettings, rgb: torch.Tensor) -> None:
        state = create_state(settings.model_copy(update={"augment": CLEAN}))
        state.progress = 0.1
        history = [float(step(state, rgb)["loss"]) for _ in range(12)]
        assert np.mean(history[-3:]) < 0.9 * np.mean(history[:3])
        assert state.steps == 12

    @pytest.mark.parametrize("damage", ["p_grain", "p_scratches"])
    def test_degradations_do_not_change_the_target(
        self, settings: TrainSettings, rgb: torch.Tensor, damage: str
    ) -> None:
        damaged = settings.model_copy(update={"augment": CLEAN.model_copy(update={damage: 1.0})})
        L, ab = training_pair(rgb, 64, 32, damaged)
        assert (L - grey_to_lightness(luma(rgb))).abs().mean() > 0.2
        assert (ab - rgb_to_lab(rgb)[:, 1:]).abs().max() < 0.1

    @pytest.mark.parametrize("damage", ["p_gamma", "p_fade", "p_shade"])
    def test_target_chroma_shrinks_where_the_input_is_darker(
        self, settings: TrainSettings, rgb: torch.Tensor, damage: str
    ) -> None:
        """A patch under half the light keeps its hue; its chroma follows the cube root of the light."""
        torch.manual_seed(1)
        damaged = settings.model_copy(update={"augment": CLEAN.model_copy(update={damage: 1.0})})
        L, ab = training_pair(rgb, 64, 32, damaged)
        before, true = grey_to_lightness(luma(rgb)), rgb_to_lab(rgb)[:, 1:]
        expected = true * ((L + 16) / (before + 16)).clamp(max=1)
        torch.testing.assert_close(ab, expected, atol=0.2, rtol=0.01)
        assert (ab.norm(dim=1) < 0.95 * true.norm(dim=1)).any()

    def test_the_average_follows_the_weights(self, settings: TrainSettings, rgb: torch.Tensor) -> None:
        state = create_state(settings)
        before = [p.clone() for p in state.average.parameters()]
        step(state, rgb)
        moved = [not torch.equal(a, b) for a, b in zip(before, state.average.parameters(), strict=True)]
        assert any(moved)
        assert not any(p.requires_grad for p in state.average.parameters())

    def test_frozen_stages_do_not_change(self, settings: TrainSettings, rgb: torch.Tensor) -> None:
        model = settings.model.model_copy(update={"frozen_stages": 3})
        state = create_state(settings.model_copy(update={"model": model}))
        before = [{k: v.clone() for k, v in s.state_dict().items()} for s in state.model.encoder_stages()]
        step(state, rgb)
        after = [s.state_dict() for s in state.model.encoder_stages()]
        same = [all(torch.equal(b[k], a[k]) for k in b) for b, a in zip(before, after, strict=True)]
        assert same == [True] * 3 + [False] * 5

    def test_the_rate_warms_up_then_falls(self, settings: TrainSettings) -> None:
        state = create_state(settings)
        rates = []
        for state.progress in (0.0, 0.04, 0.5, 1.0):
            rates.append(set_learning_rate(state))
        assert rates[0] < rates[2] < rates[1] == pytest.approx(1e-3)
        assert rates[3] == pytest.approx(1e-5)

    def test_image_size_grows_during_training(self, settings: TrainSettings) -> None:
        state = create_state(settings)
        sizes = []
        for state.progress in (0.0, 0.49, 0.51, 1.0):
            sizes.append(current_size(state))
        assert sizes == [32, 32, 64, 64]

    def test_a_saved_state_resumes_exactly(self, settings: TrainSettings, rgb: torch.Tensor) -> None:
        state = create_state(settings)
        step(state, rgb)
        buffer = io.BytesIO()
        torch.save(state.state_dict(), buffer)
        buffer.seek(0)
        resumed = create_state(settings.model_copy(update={"seed": 9}))
        resumed.load_state_dict(torch.load(buffer, weights_only=True))
        results = []
        for one in (state, resumed):
            torch.manual_seed(5)
            results.append(float(step(one, rgb)["loss"]))
        assert results[0] == results[1]

    @pytest.mark.parametrize("decay", [0.0, 0.5])
    def test_resuming_uses_the_current_rates(self, settings: TrainSettings, rgb: torch.Tensor, decay: float) -> None:
        state = create_state(settings)
        step(state, rgb)
        changed = {"weight_decay": decay, "encoder_factor": 0.1}
        model = settings.model.model_copy(update={"pretrained": True})
        resumed = create_state(
            settings.model_copy(update={"optimizer": settings.optimizer.model_copy(update=changed), "model": model})
        )
        resumed.load_state_dict(state.state_dict())
        rates = {(group["factor"], group["weight_decay"]) for group in resumed.optimizer.param_groups}
        assert rates == {(0.1, decay), (0.1, 0.0), (1.0, decay), (1.0, 0.0)}

    def test_a_state_with_other_parameter_groups_is_refused(self, settings: TrainSettings) -> None:
        state = create_state(settings)
        merged = torch.optim.AdamW(state.model.parameters())
        with pytest.raises(UsageError, match="an earlier version started this run"):
            state.load_state_dict(state.state_dict() | {"optimizer": merged.state_dict()})

    @pytest.mark.parametrize(("pretrained", "factors"), [(False, {1.0}), (True, {0.3, 1.0})])
    def test_only_a_pretrained_encoder_gets_a_lower_rate(
        self, settings: TrainSettings, pretrained: bool, factors: set[float]
    ) -> None:
        model = settings.model.model_copy(update={"pretrained": pretrained})
        state = create_state(settings.model_copy(update={"model": model}))
        assert {group["factor"] for group in state.optimizer.param_groups} == factors

    def test_a_metric_that_the_network_lacks_is_refused(self, settings: TrainSettings) -> None:
        by_mse = settings.validation.model_copy(update={"best": "mse"})
        with pytest.raises(UsageError, match=r"validation\.best=mse: the metrics of this network are psnr, "):
            create_state(settings.model_copy(update={"validation": by_mse}))

    def test_pretrained_weights_without_an_encoder_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"model\.pretrained=false"):
            ColorModel().load_pretrained()

    def test_training_starts_from_the_weights_of_another_run(self, settings: TrainSettings, tmp_path: Path) -> None:
        other = create_state(settings.model_copy(update={"seed": 9})).model
        (tmp_path / "best.safetensors").write_bytes(
            dump_checkpoint(other, name=settings.model.name, args=settings.model.args)
        )
        start = settings.model.model_copy(update={"weights": str(tmp_path)})
        state = create_state(settings.model_copy(update={"model": start}))
        for ours, theirs in zip(state.model.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"weights": "default", "name": "dense", "args": {}}, r"holds a unet .* asks for a dense"),
            ({"weights": "default", "args": {"grid": 30.0}}, r"set model\.name and model\.args"),
            ({"weights": "default", "pretrained": True}, r"set model\.pretrained=false"),
            ({"weights": "nowhere.safetensors"}, r"nowhere\.safetensors"),
        ],
    )
    def test_weights_that_do_not_fit_are_refused(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            initial_network(ModelSettings.model_validate({"name": "unet", **change}))


def test_metrics_are_averaged_over_the_steps_that_have_them() -> None:
    means = MetricAverager()
    for figures in ({"loss": 1.0}, {"loss": 3.0, "discriminator_loss": 5.0}):
        means.add({name: torch.tensor(value) for name, value in figures.items()})
    assert means.all() == {"loss": 2.0, "discriminator_loss": 5.0}


def test_grey_images_cannot_be_evaluated(rgb: torch.Tensor) -> None:
    grey = luma(rgb).expand_as(rgb)
    model = create_model("lab_cnn").eval()
    with pytest.raises(UsageError, match="all grey"):
        validate(model, [grey], 64)
    assert validate(model, [grey, rgb], 64)["colorfulness"] > 0  # some may be grey
