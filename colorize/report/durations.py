"""Durations for display."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """`47s`, `3m05s`, `2h07m`, or `unknown time` if not finite.

    >>> duration(47.2), duration(185), duration(7620), duration(float("inf"))
    ('47s', '3m05s', '2h07m', 'unknown time')
    """
    if not math.isfinite(seconds):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
