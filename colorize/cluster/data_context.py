"""How Ray Data is set up for jobs that stream images past actors."""

from __future__ import annotations

import warnings

from ray.data import DataContext

MODEL_START_SECONDS = 240  # for importing torch and loading the network; room for it is checked before
BLOCK_BYTES = 32 << 20  # a block is what one task hands to the next stage: small, so that memory stays flat


def configure(stall_seconds: float) -> DataContext:
    """Sets Ray Data up for jobs that stream images past actors, and returns its context."""
    # Nothing else bounds retries in Ray Data 2.60 without a warning, and users can do nothing about it.
    warnings.filterwarnings("ignore", "`ray_remote_args_fn` is deprecated")
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False  # the job has its own, which knows images and not blocks
    context.print_on_execution_start = False
    context.wait_for_min_actors_s = MODEL_START_SECONDS
    context.execution_no_progress_timeout_s = stall_seconds
    return context
