"""The whole bulk pipeline on one screen: units -> load -> predict -> write -> summaries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from colorize.bulk.lazy_predictor import Predictor
from colorize.bulk.load import Loader, load
from colorize.bulk.settings import BulkSettings
from colorize.bulk.write import Writer, write
from colorize.cluster.data_context import configure
from colorize.cluster.plan import StagePlan
from colorize.datasets.sources import Source
from colorize.storage.root import LEDGER

MODEL_FILE = f"{LEDGER}/model.safetensors"  # beside the outputs: what made their colors can be had again
RETRIES = 10  # of a task whose worker died; an image that kills it is blamed in the first (see isolation)
SHAPES = 8  # that images commonly have: a GPU's batches are full where so many of them come in one call
ACTOR_RESTARTS = 100  # nodes may go and come


def stream(
    source: Source,
    loader: Loader,
    writer: Writer,
    plan: StagePlan,
    settings: BulkSettings,
    checkpoint: Callable[[], bytes],
) -> Iterator[dict[str, Any]]:
    """Runs the job; each predictor gets its network from `checkpoint`, which is called where it runs.

    Yields a row of SUMMARY_SCHEMA each time a batch of inputs is stored and accounted for.
    """
    configure(settings.run.stall_seconds)
    rows = source.rows_per_task
    together = max(rows, (SHAPES if plan.device == "cuda" else 2) * plan.batch_size)
    predicted = (
        ray.data.from_arrow(source.blocks())
        .map_batches(
            partial(load, loader=loader),
            batch_size=None,  # a block is a task's work
            batch_format="pyarrow",
            num_cpus=plan.task_cpus,
            ray_remote_args_fn=_task_limits,
        )
        .map_batches(
            Predictor,
            fn_constructor_args=(checkpoint, settings.colorizer),
            fn_constructor_kwargs={
                "device": plan.device,
                "cpus": plan.cpus_per_actor,
                "batch_size": plan.batch_size,
                "confidence": settings.run.confidence,
            },
            batch_size=together,
            batch_format="pyarrow",
            num_cpus=plan.cpus_per_actor,
            num_gpus=plan.gpus_per_actor,
            ray_remote_args_fn=_actor_limits,
            compute=ActorPoolStrategy(
                min_size=plan.min_actors, max_size=plan.limit_for(math.ceil(source.total / together))
            ),
        )
    )
    if plan.device == "cuda":  # else a call's rows are one block, which one task would write
        predicted = predicted.repartition(target_num_rows_per_block=rows)
    dataset = predicted.map_batches(
        partial(write, writer=writer),
        batch_size=rows,
        batch_format="pyarrow",
        num_cpus=plan.task_cpus,
        ray_remote_args_fn=_task_limits,
    )
    dataset.set_name("colorize")  # what Ray's dashboard calls it; the stages are called load, Predictor and write
    batches: Iterable[Any] = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        yield from batch.to_pylist()


def _task_limits() -> dict[str, int]:
    return {"max_retries": RETRIES}


def _actor_limits() -> dict[str, int]:
    return {"max_restarts": ACTOR_RESTARTS, "max_task_retries": RETRIES}
