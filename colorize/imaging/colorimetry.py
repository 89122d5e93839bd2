"""All color constants, with their sources.

Plain tuples and floats, separate from `color`, so that workers which only decode and write images need not import
torch, which takes seconds and 300 MB per process.

Sources: CIE 15:2004 (the 1976 L*a*b* space), IEC 61966-2-1 (the sRGB primaries, those of ITU-R BT.709), ITU-R
BT.601 (luma), ITU-T T.871 (the full-range YCbCr of JPEG files).
"""

from __future__ import annotations

from typing import TypeAlias

Triple: TypeAlias = tuple[float, float, float]
Matrix: TypeAlias = tuple[Triple, Triple, Triple]

# ITU-R BT.601: the weights of gamma-encoded R, G and B in luma. JPEG's Y and Pillow's mode "L" use them.
LUMA_WEIGHTS: Triple = (0.299, 0.587, 0.114)

# CIE standard illuminant D65, 2 degree observer, as X, Y, Z.
D65_WHITE: Triple = (0.95047, 1.0, 1.08883)

# Linear sRGB (BT.709 primaries, D65) -> XYZ, and its inverse.
RGB_TO_XYZ: Matrix = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
XYZ_TO_RGB: Matrix = (
    (3.240481343201, -1.537151516271, -0.498536326169),
    (-0.969254949997, 1.875990001490, 0.041555926558),
    (0.055646639135, -0.204041338367, 1.057311069645),
)

# The threshold between cube root and line, and the line's slope and offset, rounded as in the 1976 recommendation and
# in other libraries (the exact slope would change a* by at most 0.0002).
LAB_THRESHOLD = 0.008856
LAB_SLOPE = 7.787
LAB_OFFSET = 16 / 116

# ITU-T T.871: chroma is (B - Y) and (R - Y), scaled to [-0.5, 0.5].
CB_SCALE = 0.5 / (1 - LUMA_WEIGHTS[2])
CR_SCALE = 0.5 / (1 - LUMA_WEIGHTS[0])
