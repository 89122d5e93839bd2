"""The predict stage: an actor that runs the network on loaded rows."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from colorize.bulk.rows import INPUT_COLUMNS, PREDICTED_FIELDS
from colorize.bulk.telemetry import add_work_seconds
from colorize.bulk.worker_stats import note
from colorize.cluster.attempts import actor_was_restarted
from colorize.errors import one_line
from colorize.imaging.canvas import Fitted
from colorize.imaging.sandbox import Fault
from colorize.predict.colorizer import Colored
from colorize.predict.columns import more_colors, pages_from
from colorize.predict.isolated_predictor import IsolatedPredictor, NetworkSource
from colorize.predict.oom_fallback import color_with_fallback
from colorize.predict.opening import has_gpu
from colorize.predict.settings import ColorizerSettings

log = logging.getLogger("colorize")

Colors: TypeAlias = list[Colored]  # of the colored pages of one row; usually one

# Batches that a restarted predictor colors image by image in a child process. Ray retries the batches of the dead
# actor, at most four (Ray Data's limit of tasks in flight), without saying which batches these are.
SUSPECTS = 4
GPU_LOST = 70  # exit status of a predictor whose GPU has failed


class Predictor:
    """One copy of the network on one device, with its share of the CPUs."""

    def __init__(
        self,
        checkpoint: Callable[[], bytes],
        settings: ColorizerSettings,
        *,
        device: str,
        cpus: float,
        batch_size: int,
        confidence: bool,
    ) -> None:
        """Loads the network from the bytes that `checkpoint` returns."""
        threads = max(1, math.floor(cpus))
        self.shortfall = ""
        if device == "cuda" and not has_gpu():
            device, self.shortfall = "cpu", "on the CPU: the node offers a GPU, but no CUDA"
            log.warning("%s", self.shortfall)
        self.network = NetworkSource(checkpoint, settings, device, threads, batch_size, confidence)
        _ = self.network.colorizer  # load it now, so that errors are raised at the start
        self.suspects = SUSPECTS if actor_was_restarted() else 0
        self.isolated = IsolatedPredictor(self.network)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replaces the grey images of `batch` (LOADED_SCHEMA) by `PREDICTED_FIELDS`."""
        started = time.perf_counter()
        rows = batch.select([*INPUT_COLUMNS, "status"]).to_pylist()
        wanted = [index for index, row in enumerate(rows) if row["status"] == "ok"]
        pages = {i: pages_from(rows[i]) for i in wanted}
        flat, degraded = self._color([page for of_row in pages.values() for page in of_row])
        colors = iter(flat)
        spent = time.perf_counter() - started
        share = spent / max(len(wanted), 1)
        add_work_seconds("predict", spent)
        found = {i: _of_row(list(islice(colors, len(of_row)))) for i, of_row in pages.items()}
        return _with_colors(_with_faults(batch, found), found, rows, share, degraded or self.shortfall)

    def _color(self, greys: list[Fitted]) -> tuple[Sequence[Colored | Fault], str]:
        if self.suspects:
            self.suspects -= 1
            colors = self.isolated(greys)
            if not self.suspects:
                self.isolated.close()
            return colors, ""
        try:
            return color_with_fallback(self.network.colorizer, greys, self.network.confidence)
        except RuntimeError as error:
            if not _has_lost_the_gpu(error):
                raise
            log.critical("the GPU failed; this predictor exits and will be restarted: %s", one_line(error))
            os._exit(GPU_LOST)  # not an exception: Ray restarts actors that died, but fails the job if an actor raises


def _has_lost_the_gpu(error: RuntimeError) -> bool:
    """Whether CUDA is unusable for the rest of the process: illegal address, uncorrectable ECC error, reset.

    Out of memory is not included: `color_with_fallback` handles it.
    """
    is_cuda = any(sign in str(error) for sign in ("CUDA error", "cuDNN error", "CUBLAS_STATUS"))
    return is_cuda and "out of memory" not in str(error)


def _of_row(colors: list[Colored | Fault]) -> Colors | Fault:
    """The colors of all pages of a row, or the fault of one of them."""
    fault = next((color for color in colors if isinstance(color, Fault)), None)
    return fault or [color for color in colors if not isinstance(color, Fault)]


def _with_faults(batch: pa.Table, colors: Mapping[int, Colors | Fault]) -> pa.Table:
    """The batch, with the images that crashed their process as failed rows."""
    faults = {index: fault for index, fault in colors.items() if isinstance(fault, Fault)}
    if not faults:
        return batch
    for name, text in (("status", "failed"), ("error", None), ("message", None)):
        values = batch[name].to_pylist()
        for index, fault in faults.items():
            values[index] = text or (fault.code if name == "error" else fault.message)
        batch = batch.set_column(batch.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return batch


def _with_colors(
    batch: pa.Table, colors: Mapping[int, Colors | Fault], rows: list[dict[str, Any]], seconds: float, degraded: str
) -> pa.Table:
    indices = range(batch.num_rows)
    # Colors that are not finite are dropped; the writer then reports the row as failed.
    good = {i: c for i, c in colors.items() if not isinstance(c, Fault) and all(np.isfinite(p.ab).all() for p in c)}
    columns = (
        [good[i][0].ab.tobytes() if i in good else b"" for i in indices],
        [good[i][0].ab.shape[1] if i in good else 0 for i in indices],
        [good[i][0].ab.shape[2] if i in good else 0 for i in indices],
        [more_colors(rows[i], [page.ab for page in good[i][1:]]) if i in good else [] for i in indices],
        [note("predict")] * batch.num_rows,
        [seconds if i in colors else 0.0 for i in indices],
    )
    if degraded:
        texts = pa.array([degraded if i in good else "" for i in indices])
        batch = batch.set_column(batch.schema.get_field_index("degraded"), "degraded", texts)
    spent = [before + (seconds if i in colors else 0.0) for i, before in enumerate(batch["seconds"].to_pylist())]
    sure = [round(sum(p.confidence for p in good[i]) / len(good[i]), 4) if i in good else 0.0 for i in indices]
    result = batch.drop_columns(list(INPUT_COLUMNS))
    for name, numbers in (("seconds", spent), ("confidence", sure)):
        result = result.set_column(result.schema.get_field_index(name), name, pa.array(numbers, pa.float64()))
    for kind, values in zip(PREDICTED_FIELDS, columns, strict=True):
        result = result.append_column(kind, pa.array(values, kind.type))
    return result
