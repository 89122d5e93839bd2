"""The whole bulk pipeline on one screen: units -> load -> predict -> write -> summaries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, cast

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

from colorize.config import BulkSettings
from colorize.data.manifest import LEDGER
from colorize.data.sources import Source
from colorize.inference.load import Loader, load
from colorize.inference.plan import StagePlan
from colorize.inference.predictor import Predictor
from colorize.inference.write import Writer, write

BLOCK_BYTES = 32 << 20  # a block is what one task hands to the next stage: small, so that memory stays flat
MODEL_FILE = f"{LEDGER}/model.safetensors"  # beside the outputs: what made their colors can be had again
RETRIES = 10  # of a task whose worker died; a picture that kills it is blamed in the first (see isolation)
ACTOR_RESTARTS = 100  # nodes may go and come
MODEL_START_SECONDS = 240  # for importing torch and loading the network; room for it is checked before


def stream(
    source: Source,
    loader: Loader,
    writer: Writer,
    plan: StagePlan,
    settings: BulkSettings,
    callback: Callable[[], ExecutionCallback] | None = None,
) -> Iterator[dict[str, Any]]:
    """Runs the job, with the network in `MODEL_FILE` below the output; `callback` makes what Ray Data is to call.

    Yields a row of SUMMARY_SCHEMA each time a batch of inputs is stored and accounted for.
    """
    # Nothing else bounds retries in Ray Data 2.60 without a warning, and users can do nothing about it.
    warnings.filterwarnings("ignore", "`ray_remote_args_fn` is deprecated")
    context = configure(settings.run.stall_seconds)
    context.custom_execution_callback_classes = [cast(Any, callback)] if callback else []
    rows = settings.source.rows_per_task
    dataset = (
        ray.data.from_arrow(source.blocks())
        .map_batches(
            partial(load, loader=loader),
            batch_size=source.units_per_batch,
            batch_format="pyarrow",
            num_cpus=plan.task_cpus,
            ray_remote_args_fn=_task_limits,
        )
        .map_batches(
            Predictor,
            fn_constructor_args=(writer.sink.storage, MODEL_FILE, settings.colorizer),
            fn_constructor_kwargs={
                "device": plan.device,
                "cpus": plan.cpus_per_actor,
                "batch_size": plan.batch_size,
                "confidence": settings.run.confidence,
            },
            batch_size=max(rows, 2 * plan.batch_size),  # several shapes share it, so more than one forward pass
            batch_format="pyarrow",
            num_cpus=plan.cpus_per_actor,
            num_gpus=plan.gpus_per_actor,
            ray_remote_args_fn=_actor_limits,
            compute=ActorPoolStrategy(min_size=plan.min_actors, max_size=plan.max_actors),
        )
        .map_batches(
            partial(write, writer=writer),
            batch_size=rows,
            batch_format="pyarrow",
            num_cpus=plan.task_cpus,
            ray_remote_args_fn=_task_limits,
        )
    )
    dataset.set_name("colorize")  # what Ray's dashboard calls it; the stages are called load, Predictor and write
    batches: Iterable[Any] = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        yield from batch.to_pylist()


def _task_limits() -> dict[str, int]:
    return {"max_retries": RETRIES}


def _actor_limits() -> dict[str, int]:
    return {"max_restarts": ACTOR_RESTARTS, "max_task_retries": RETRIES}


def configure(stall_seconds: float) -> DataContext:
    """Sets Ray Data up for jobs that stream pictures past actors, and returns its context."""
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False  # the job has its own, which knows pictures and not blocks
    context.print_on_execution_start = False
    context.wait_for_min_actors_s = MODEL_START_SECONDS
    context.execution_no_progress_timeout_s = stall_seconds
    return context
