"""Limits per image."""

from __future__ import annotations

from pydantic import Field

from colorize.settings import Settings


class SizeLimits(Settings):
    """Limits on the size of an image."""

    max_pixels: int = Field(400_000_000, ge=1, description="larger images fail as `too_large`")
    min_side: int = Field(1, ge=1, description="images with a shorter side fail as `too_small`")
    max_bytes: int = Field(4 << 30, ge=1, description="larger files fail as `too_large` without being read")


class LimitSettings(SizeLimits):
    """Limits on the size, time and memory of an image."""

    seconds: float = Field(
        120.0,
        gt=0,
        allow_inf_nan=False,
        description="time limit for decoding an image, or for rendering its copy; slower images fail as `too_slow`",
    )
    memory_mb: int = Field(
        4096, ge=0, description="memory limit per image; larger ones fail as `out_of_memory`; 0: no limit"
    )
