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

MODEL_FILE = f"{LEDGER}/model.safetensors"  # stored with the outputs, so they can be reproduced
RETRIES = 10  # of a task whose worker died; an image that crashes its worker fails in the first (see sandbox)
CANVAS_SHAPES = 8  # common shapes: a call of a GPU predictor has enough images for a full batch of each
ACTOR_RESTARTS = 100  # high, because nodes may come and go


def stream(
    source: Source,
    loader: Loader,
    writer: Writer,
    plan: StagePlan,
    settings: BulkSettings,
    checkpoint: Callable[[], bytes],
) -> Iterator[dict[str, Any]]:
    """Runs the job; each predictor calls `checkpoint` to load its network.

    Yields a row of SUMMARY_SCHEMA for each batch of inputs that is stored and in the manifest.
    """
    configure(settings.run.stall_seconds)
    rows_per_task = source.rows_per_task
    rows_per_call = max(rows_per_task, (CANVAS_SHAPES if plan.device == "cuda" else 2) * plan.batch_size)
    predicted = (
        ray.data.from_arrow(source.blocks())
        .map_batches(
            partial(load, loader=loader),
            batch_size=None,  # one block per task
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
            batch_size=rows_per_call,
            batch_format="pyarrow",
            num_cpus=plan.cpus_per_actor,
            num_gpus=plan.gpus_per_actor,
            ray_remote_args_fn=_actor_limits,
            compute=ActorPoolStrategy(
                min_size=plan.min_actors, max_size=plan.limit_for(math.ceil(source.total / rows_per_call))
            ),
        )
    )
    if plan.device == "cuda":  # otherwise all rows of a call are one block, written by one task
        predicted = predicted.repartition(target_num_rows_per_block=rows_per_task)
    dataset = predicted.map_batches(
        partial(write, writer=writer),
        batch_size=rows_per_task,
        batch_format="pyarrow",
        num_cpus=plan.task_cpus,
        ray_remote_args_fn=_task_limits,
    )
    dataset.set_name("colorize")  # in Ray's dashboard, with the stages load, Predictor and write
    batches: Iterable[Any] = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        yield from batch.to_pylist()


def _task_limits() -> dict[str, int]:
    return {"max_retries": RETRIES}


def _actor_limits() -> dict[str, int]:
    return {"max_restarts": ACTOR_RESTARTS, "max_task_retries": RETRIES}
