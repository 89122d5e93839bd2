"""What one image may cost before it is refused."""

from __future__ import annotations

from pydantic import Field

from colorize.settings import Settings


class SizeLimits(Settings):
    """Which images are refused for their size."""

    max_pixels: int = Field(400_000_000, ge=1, description="larger images fail as `too_large`")
    min_side: int = Field(1, ge=1, description="images with a shorter side fail as `too_small`")
    max_bytes: int = Field(4 << 30, ge=1, description="larger files fail as `too_large`, and are not read")


class LimitSettings(SizeLimits):
    """What one image may cost before it is refused."""

    seconds: float = Field(
        120.0, gt=0, allow_inf_nan=False, description="for decoding an image, or for making its copy; else `too_slow`"
    )
    memory_mb: int = Field(
        4096, ge=0, description="for one image, in a child process; beyond it `out_of_memory`; 0: no limit"
    )
