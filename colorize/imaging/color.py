"""Color conversions in torch: sRGB, CIE L*a*b*, luma and YCbCr; the constants are in `colorimetry`.

All functions are pure, differentiable and work on any device. Shapes are `(*, C, H, W)`, sRGB is in [0, 1], and the
white point is D65.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from colorize.imaging.colorimetry import (
    CB_SCALE,
    CR_SCALE,
    D65_WHITE,
    LAB_OFFSET,
    LAB_SLOPE,
    LAB_THRESHOLD,
    LUMA_WEIGHTS,
    RGB_TO_XYZ,
    XYZ_TO_RGB,
    Matrix,
    Triple,
)


def rgb_to_linear(rgb: Tensor) -> Tensor:
    """Undo the sRGB transfer function (IEC 61966-2-1). Any shape, [0, 1] -> [0, 1].

    >>> [round(v, 4) for v in rgb_to_linear(torch.tensor([0.0, 0.04, 0.5, 1.0])).tolist()]
    [0.0, 0.0031, 0.214, 1.0]
    """
    # The clamp keeps the gradient finite where the linear branch is used.
    power = ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(rgb > 0.04045, power, rgb / 12.92)


def linear_to_rgb(linear: Tensor) -> Tensor:
    """Apply the sRGB transfer function (IEC 61966-2-1). Any shape; values below 0 stay on the linear branch.

    >>> [round(v, 3) for v in linear_to_rgb(torch.tensor([0.0, 0.214, 1.0])).tolist()]
    [0.0, 0.5, 1.0]
    """
    power = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, power, linear * 12.92)


def rgb_to_lab(rgb_C3HW: Tensor) -> Tensor:
    """sRGB -> CIE L*a*b* (1976), D65. Shape `(*, 3, H, W)`; L* in [0, 100], a* and b* about [-110, 110].

    >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
    >>> [round(v, 2) for v in rgb_to_lab(red).flatten().tolist()]
    [53.24, 80.09, 67.2]
    """
    planes = _mix(rgb_to_linear(rgb_C3HW).unbind(-3), RGB_TO_XYZ)
    x, y, z = (_lab_curve(plane / white) for plane, white in zip(planes, D65_WHITE, strict=True))
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-3)


def lab_to_rgb(lab_C3HW: Tensor, clip: bool = True) -> Tensor:
    """CIE L*a*b* (1976), D65 -> sRGB. Shape `(*, 3, H, W)`.

    Colors outside the sRGB gamut are clipped to [0, 1] per channel. With `clip=False` they are returned outside of that
    range, which shows whether a color is in gamut.

    >>> lab = torch.tensor([53.24, 80.09, 67.2]).reshape(3, 1, 1)
    >>> [abs(round(v, 2)) for v in lab_to_rgb(lab).flatten().tolist()]
    [1.0, 0.0, 0.0]
    """
    lightness, a, b = lab_C3HW.unbind(-3)
    y = (lightness + 16) / 116
    curves = (y + a / 500, y, y - b / 200)
    xyz = [_lab_curve_inverse(curve) * white for curve, white in zip(curves, D65_WHITE, strict=True)]
    rgb = linear_to_rgb(torch.stack(_mix(xyz, XYZ_TO_RGB), dim=-3))
    return rgb.clamp(0, 1) if clip else rgb


def luma(rgb_C3HW: Tensor) -> Tensor:
    """BT.601 luma of sRGB `(*, 3, H, W)` -> `(*, 1, H, W)`: the grey of Pillow's mode "L" and of a JPEG's Y.

    >>> round(luma(torch.tensor([0.0, 1.0, 0.0]).reshape(3, 1, 1)).item(), 3)
    0.587
    """
    return _weigh(rgb_C3HW.unbind(-3), LUMA_WEIGHTS).unsqueeze(-3)


def grey_to_lightness(grey: Tensor) -> Tensor:
    """L* of the neutral color with this sRGB grey value, the input of models. Any shape, [0, 1] -> [0, 100].

    >>> [round(v, 2) for v in grey_to_lightness(torch.tensor([0.0, 0.5, 1.0])).tolist()]
    [0.0, 53.39, 100.0]
    """
    return 116 * _lab_curve(rgb_to_linear(grey)) - 16


def lightness_to_grey(lightness: Tensor) -> Tensor:
    """Inverse of `grey_to_lightness`: the sRGB grey value of this L*. Any shape, [0, 100] -> [0, 1].

    >>> [round(v, 2) for v in lightness_to_grey(torch.tensor([0.0, 53.39, 100.0])).tolist()]
    [0.0, 0.5, 1.0]
    """
    return linear_to_rgb(_lab_curve_inverse((lightness + 16) / 116)).clamp(0, 1)


def rgb_to_ycbcr(rgb_C3HW: Tensor) -> Tensor:
    """sRGB -> full-range YCbCr (ITU-T T.871). `(*, 3, H, W)`; Y in [0, 1], Cb and Cr in [-0.5, 0.5].

    >>> [round(v, 3) for v in rgb_to_ycbcr(torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1)).flatten().tolist()]
    [0.114, 0.5, -0.081]
    """
    y = luma(rgb_C3HW)
    red, _, blue = rgb_C3HW.tensor_split(3, dim=-3)
    return torch.cat((y, (blue - y) * CB_SCALE, (red - y) * CR_SCALE), dim=-3)


def ycbcr_to_rgb(ycbcr_C3HW: Tensor) -> Tensor:
    """Inverse of `rgb_to_ycbcr`; not clipped. `(*, 3, H, W)`, Y in [0, 1], Cb and Cr in [-0.5, 0.5].

    >>> blue = torch.tensor([0.114, 0.5, -0.0813]).reshape(3, 1, 1)
    >>> [abs(round(v, 3)) for v in ycbcr_to_rgb(blue).flatten().tolist()]
    [0.0, 0.0, 1.0]
    """
    y, cb, cr = ycbcr_C3HW.tensor_split(3, dim=-3)
    red, blue = y + cr / CR_SCALE, y + cb / CB_SCALE
    green = (y - LUMA_WEIGHTS[0] * red - LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
    return torch.cat((red, green, blue), dim=-3)


def _lab_curve(t: Tensor) -> Tensor:
    root = t.clamp(min=LAB_THRESHOLD) ** (1 / 3)
    return torch.where(t > LAB_THRESHOLD, root, LAB_SLOPE * t + LAB_OFFSET)


def _lab_curve_inverse(f: Tensor) -> Tensor:
    return torch.where(f > LAB_THRESHOLD ** (1 / 3), f**3, (f - LAB_OFFSET) / LAB_SLOPE)


def _mix(planes: Sequence[Tensor], matrix: Matrix) -> list[Tensor]:
    """Multiply each pixel's three channels by a 3x3 matrix.

    Uses Python floats, because copying a tensor to the GPU would synchronize at every call.
    """
    return [_weigh(planes, row) for row in matrix]


def _weigh(planes: Sequence[Tensor], weights: Triple) -> Tensor:
    """The weighted sum of three channels."""
    first, second, third = planes
    return (first * weights[0]).add(second, alpha=weights[1]).add(third, alpha=weights[2])
