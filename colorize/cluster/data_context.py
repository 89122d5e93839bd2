"""Configures Ray Data for streaming jobs with actor pools."""

from __future__ import annotations

import warnings

from ray.data import DataContext

BLOCK_BYTES = 32 << 20  # small, so that memory stays flat


def configure(stall_seconds: float) -> DataContext:
    """Configures and returns Ray Data's context."""
    # Ray Data 2.60 has no other way to bound retries, and users cannot act on the warning.
    warnings.filterwarnings("ignore", "`ray_remote_args_fn` is deprecated")
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False  # the job shows its own, in images
    context.print_on_execution_start = False
    context.wait_for_min_actors_s = -1  # images load meanwhile; resources are checked before
    context.execution_no_progress_timeout_s = stall_seconds
    return context
