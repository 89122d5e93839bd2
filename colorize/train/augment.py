"""Augmentation of whole batches on their device: random crops, and simulated damage of old scans to the grey image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from colorize.imaging.colorimetry import LUMA_WEIGHTS
from colorize.train.settings import AugmentSettings


def canvas_shape(sides: Sequence[int], size: int, stride: int) -> tuple[int, int]:
    """Height and width with an area of about size x size and the aspect ratio of `sides`, as multiples of `stride`.

    >>> canvas_shape((128, 192), 256, 32)
    (224, 320)
    """
    root = math.sqrt(sides[0] / sides[1])
    height, width = (max(stride, round(side / stride) * stride) for side in (size * root, size / root))
    return height, width


def random_crops(rgb_B3HW: Tensor, shape: tuple[int, int], settings: AugmentSettings) -> Tensor:
    """Random crops with random flips, resampled to `shape`: `(B, 3, *shape)`.

    Crops keep the image's aspect ratio to within 10 %. With `min_area` 1 they are the whole image.
    """
    batch, device = len(rgb_B3HW), rgb_B3HW.device
    reach = 0.05 if settings.min_area < 1 else 0.0
    side = _uniform(batch, settings.min_area, 1.0, device).sqrt()
    stretch = _uniform(batch, -reach, reach, device).exp()
    scale_B2 = torch.stack((side * stretch, side / stretch), dim=1).clamp(max=1.0)
    shift_B2 = (torch.rand(batch, 2, device=device) * 2 - 1) * (1 - scale_B2)
    mirror_B2 = torch.stack((1 - 2 * _chosen(batch, settings.p_flip, device), torch.ones_like(side)), dim=1)
    theta_B23 = torch.cat((torch.diag_embed(scale_B2 * mirror_B2), shift_B2.unsqueeze(2)), dim=2)
    grid = F.affine_grid(theta_B23, [batch, 3, *shape], align_corners=False)
    return F.grid_sample(rgb_B3HW, grid, mode="bilinear", padding_mode="border", align_corners=False)


def scanned_grey(rgb_B3HW: Tensor, settings: AugmentSettings) -> tuple[Tensor, Tensor]:
    """Simulates a scan of an old print: sRGB in [0, 1] -> grey `(B, 1, H, W)` in [0, 1].

    Follows the light: spectrum of the emulsion, lens, exposure, grain, then age.

    Returns:
        The scan, and the same without grain, dust and scratches.
    """
    grey = _spectrum(rgb_B3HW, settings.p_spectrum)
    grey = _blur(grey, settings.p_blur)
    grey = _gamma(grey, settings.p_gamma)
    grey = _shade(grey, settings.p_shade)
    black, white = _per_image(grey, 0.0, 0.3, settings.p_fade), 1 - _per_image(grey, 0.0, 0.3, settings.p_fade)
    tones, scan = (black + (white - black) * each for each in (grey, _grain(grey, settings.p_grain)))
    return _scratches(scan, settings.p_scratches).clamp(0, 1), tones.clamp(0, 1)


def _spectrum(rgb: Tensor, p: float) -> Tensor:
    """Luma, or other channel weights: early emulsions were blind to red, which made lips dark and skies white."""
    batch, device = len(rgb), rgb.device
    red, blue = _uniform(batch, 0.0, 0.35, device), _uniform(batch, 0.1, 0.6, device)
    chosen = _chosen(batch, p, device)
    film = (red, 1 - red - blue, blue)
    weights = [luma + chosen * (other - luma) for luma, other in zip(LUMA_WEIGHTS, film, strict=True)]
    return torch.einsum("bchw,bc->bhw", rgb, torch.stack(weights, dim=1)).unsqueeze(1)


def _blur(grey: Tensor, p: float, radius: int = 4) -> Tensor:
    """Gaussian blur with a random deviation for each image, about 0.3 to 2 pixels."""
    batch = len(grey)
    sigma = _uniform(batch, math.log(0.4), math.log(2.0), grey.device).exp()
    sigma = torch.where(_chosen(batch, p, grey.device).bool(), sigma, 1e-2)
    offsets = torch.arange(-radius, radius + 1, device=grey.device)
    kernel = (-0.5 * (offsets / sigma[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).reshape(batch, 1, 1, -1)
    # One group per image, so that each image has its own kernel.
    rows = F.pad(grey, (radius,) * 4, mode="replicate").transpose(0, 1)
    rows = F.conv2d(rows, kernel, groups=batch)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=batch).transpose(0, 1)


def _gamma(grey: Tensor, p: float) -> Tensor:
    exponent = _per_image(grey, -0.5, 0.5, p).exp()
    return grey.clamp(1e-4, 1) ** exponent


def _shade(grey: Tensor, p: float) -> Tensor:
    """A linear brightness gradient, up to 30 % at the edges."""
    height, width = grey.shape[2:]
    across = torch.linspace(-1, 1, width, device=grey.device)
    down = torch.linspace(-1, 1, height, device=grey.device)[:, None]
    strength_x, strength_y = _per_image(grey, -0.2, 0.2, p), _per_image(grey, -0.2, 0.2, p)
    return grey * (1 + strength_x * across + strength_y * down)


def _grain(grey: Tensor, p: float) -> Tensor:
    """Noise, half of it in clumps of about two pixels, like silver grains."""
    fine = torch.randn_like(grey)
    clumps = F.avg_pool2d(torch.randn_like(grey), 3, stride=1, padding=1) * 3
    return grey + _per_image(grey, 0.0, 0.06, p) * (fine + clumps) / math.sqrt(2)


def _scratches(grey: Tensor, p: float) -> Tensor:
    """White or black specks and vertical lines."""
    batch, width, device = len(grey), grey.shape[3], grey.device
    specks = F.max_pool2d((torch.rand_like(grey) < 4e-4).float(), 3, stride=1, padding=1)
    lines = (torch.rand(batch, 1, 1, width, device=device) < 0.01).float().expand_as(grey)
    opacity = _per_image(grey, 0.3, 1.0, p) * torch.maximum(specks, lines)
    ink = _chosen(batch, 0.7, device).reshape(-1, 1, 1, 1)
    return torch.lerp(grey, ink.expand_as(grey), opacity)


def _per_image(like_B1HW: Tensor, low: float, high: float, p: float) -> Tensor:
    """A uniform random number for each image, 0 with probability 1 - p: `(B, 1, 1, 1)`."""
    batch, device = len(like_B1HW), like_B1HW.device
    return (_uniform(batch, low, high, device) * _chosen(batch, p, device)).reshape(-1, 1, 1, 1)


def _uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.rand(count, device=device) * (high - low) + low


def _chosen(count: int, p: float, device: torch.device) -> Tensor:
    """1.0 with probability `p`, else 0.0."""
    return (torch.rand(count, device=device) < p).float()
