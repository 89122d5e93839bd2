"""Metrics against independent implementations and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import sqrtm
from skimage import color, metrics

from colorize.metrics import (
    absolute_colorfulness,
    auc_by_bin,
    bootstrap,
    ciede2000,
    colorfulness,
    frechet_distance,
    pixel_scores,
    psnr,
    rarity_weights,
    ssim,
)
from colorize.metrics.area import BINS
from colorize.metrics.resampling import Counts

Floats = NDArray[np.floating]


@pytest.fixture(scope="module")
def pair(astronaut: Image.Image) -> tuple[Floats, Floats]:
    """A photograph and a distorted copy, float64 (H, W, 3) in [0, 1]."""
    true = np.asarray(astronaut.resize((120, 90)), np.float64) / 255
    noise = np.random.default_rng(0).normal(0, 0.05, true.shape)
    return np.clip(0.9 * true[..., [0, 2, 1]] + noise, 0, 1), true


def batch(image: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def test_psnr_matches_scikit_image(pair: tuple[Floats, Floats]) -> None:
    ours, true = pair
    assert psnr(batch(ours), batch(true)).item() == pytest.approx(
        metrics.peak_signal_noise_ratio(true, ours, data_range=1)
    )


def test_psnr_of_a_constant_error_matches_the_formula() -> None:
    true = torch.zeros(2, 3, 4, 4)
    assert psnr(true + 0.1, true).tolist() == pytest.approx([20.0, 20.0])
    assert psnr(true + 22, true, peak=220).tolist() == pytest.approx([20.0, 20.0])
    assert psnr(true, true).tolist() == pytest.approx([100.0, 100.0])


def test_ssim_matches_scikit_image(pair: tuple[Floats, Floats]) -> None:
    ours, true = pair
    reference = metrics.structural_similarity(
        true, ours, channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(batch(ours), batch(true)).item() == pytest.approx(reference, abs=1e-6)
    assert ssim(batch(true), batch(true)).item() == pytest.approx(1)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


def test_ciede2000_matches_scikit_image(pair: tuple[Floats, Floats]) -> None:
    ours, true = (color.rgb2lab(image) for image in pair)
    found = ciede2000(batch(ours), batch(true))[0].numpy()
    assert np.abs(found - color.deltaE_ciede2000(true, ours)).max() < 1e-6


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [  # Sharma et al., table 1: pairs 1, 7, 9, 10, 13, 14, 17, 25 and 34
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
        ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0010), 7.1792),
        ((50.0, -0.001, 2.49), (50.0, 0.0009, -2.49), 4.8045),
        ((50.0, -0.001, 2.49), (50.0, 0.0010, -2.49), 4.8045),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_ciede2000_matches_the_published_test_data(
    first: tuple[float, ...], second: tuple[float, ...], difference: float
) -> None:
    ours, true = (torch.tensor(lab, dtype=torch.float64).reshape(1, 3, 1, 1) for lab in (first, second))
    assert ciede2000(ours, true).item() == pytest.approx(difference, abs=1e-4)
    assert ciede2000(true, ours).item() == pytest.approx(difference, abs=1e-4)


def test_colorfulness_of_two_colors_matches_the_formula() -> None:
    """Half red, half green: R - G is +-255 and (R + G) / 2 - B is 127.5 everywhere."""
    image = torch.zeros(1, 3, 2, 4)
    image[:, 0, :, :2] = image[:, 1, :, 2:] = 1
    assert colorfulness(image).item() == pytest.approx(255 + 0.3 * 127.5)
    assert absolute_colorfulness(image).item() == pytest.approx(0.3 * math.hypot(255, 127.5))


def test_the_colorfulness_of_grey_is_zero() -> None:
    grey = torch.rand(3, 1, 8, 8).expand(3, 3, 8, 8)
    assert colorfulness(grey).tolist() == absolute_colorfulness(grey).tolist() == [0, 0, 0]


def test_auc_is_the_area_under_the_curve_of_errors() -> None:
    """Against the definition: thresholds swept, pixels counted."""
    generator = torch.Generator().manual_seed(0)
    ours, true = ((torch.rand(1, 2, 40, 40, generator=generator) - 0.5) * 200 for _ in range(2))
    error = torch.linalg.vector_norm(ours - true, dim=1)
    curve = [(error <= threshold).double().mean().item() for threshold in range(151)]

    pixels, scores = auc_by_bin(ours, true)
    assert pixels.sum() == 1600
    assert (scores.sum() / pixels.sum()).item() == pytest.approx(np.mean(curve), abs=1e-6)
    assert pixel_scores(true, true).min() == 1
    assert pixel_scores(true + 107, true).max() == 0


def test_rare_colors_weigh_more_in_the_rebalanced_auc() -> None:
    pixels = np.zeros(BINS)
    pixels[[100, 400]] = 900, 100  # too far apart for the smoothing
    weights = rarity_weights(pixels)
    assert weights[400] / weights[100] == pytest.approx(9)
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert weights.sum() == weights[[100, 400]].sum()


@pytest.mark.parametrize("images", [8, 200])
def test_frechet_distance_matches_the_closed_form(images: int) -> None:
    """Against a matrix square root, also for fewer images than features."""
    random = np.random.default_rng(0)
    ours, true = random.normal(0, 1, (images, 12)), random.normal(0.5, 2, (images + 5, 12))
    one, other = (np.cov(x, rowvar=False) for x in (ours, true))
    ridge = 1e-9 * np.eye(12)  # for the reference, if the covariance is rank-deficient
    root = np.asarray(sqrtm((one + ridge) @ (other + ridge))).real
    reference = ((ours.mean(0) - true.mean(0)) ** 2).sum() + np.trace(one + other - 2 * root)
    assert frechet_distance(ours, true) == pytest.approx(reference, rel=1e-3)


def test_frechet_distance_of_identical_sets_is_zero_and_of_a_shift_its_square() -> None:
    features = np.random.default_rng(0).normal(0, 1, (50, 6))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features + 2, features) == pytest.approx(4 * 6)
    with pytest.raises(ValueError, match="two images"):
        frechet_distance(features[:1], features)


def test_a_bootstrap_interval_has_the_theoretical_width() -> None:
    values = np.random.default_rng(0).normal(30, 2, 400)
    interval = bootstrap({"mean": lambda counts: counts @ values / len(values)}, len(values))["mean"]
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert interval.low < interval.value < interval.high
    assert interval.excludes_zero


def test_a_paired_difference_has_a_narrower_interval_than_its_parts() -> None:
    random = np.random.default_rng(0)
    first = random.normal(25, 3, 300)
    second = first + random.normal(0.2, 0.1, 300)
    statistics = {
        "alone": lambda counts: counts @ second / 300,
        "paired": lambda counts: counts @ (second - first) / 300,
    }
    found = bootstrap(statistics, 300)
    alone, paired = found["alone"], found["paired"]
    assert paired.high - paired.low < (alone.high - alone.low) / 10
    assert paired.excludes_zero
    assert bootstrap({"paired": statistics["paired"]}, 300)["paired"] == paired  # independent of other statistics


def test_all_metrics_share_the_same_bootstrap_samples() -> None:
    seen: list[Counts] = []

    def noted(counts: Counts) -> Counts:
        seen.append(counts)
        return counts[:, 0]

    bootstrap(dict.fromkeys(range(5), noted), 30, resamples=100)
    drawn = [counts for counts in seen if len(counts) > 1]
    assert len(drawn) == 5
    assert len({id(counts) for counts in drawn}) == 1


def test_one_image_has_no_interval() -> None:
    interval = bootstrap({"it": lambda counts: counts @ np.array([7.0])}, 1)["it"]
    assert (interval.low, interval.value, interval.high) == (7, 7, 7)
