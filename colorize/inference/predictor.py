"""The predict stage: an actor that holds the network and adds `ab` to loaded rows."""

from __future__ import annotations

import math
import time

import numpy as np
import pyarrow as pa
import torch

from colorize.checkpoint import load_checkpoint
from colorize.colorizer import Colored, Colorizer
from colorize.config import ColorizerSettings
from colorize.data.storage import Storage
from colorize.inference.census import note
from colorize.inference.rows import GREY_COLUMNS, PREDICTED_FIELDS, grey_from
from colorize.inference.telemetry import worked


class Predictor:
    """One copy of the network, on one device, with its share of the CPUs."""

    def __init__(
        self,
        storage: Storage,
        checkpoint: str,
        settings: ColorizerSettings,
        *,
        device: str,
        cpus: float,
        batch_size: int,
        confidence: bool,
    ) -> None:
        """Loads the network from `checkpoint` below `storage`, the run's output, which every worker reaches.

        Ray sizes OMP's pool when it starts a worker process and reuses the process later with other shares of
        the CPUs, so the threads are set here.
        """
        torch.set_num_threads(max(1, math.floor(cpus)))
        self.confidence = confidence
        model = load_checkpoint(storage.read(checkpoint)).model
        self.colorizer = Colorizer(
            model,
            size=settings.size,
            batch_size=batch_size,
            device=device,
            precision=settings.precision,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """`batch` (LOADED_SCHEMA) less the grey pictures, plus `PREDICTED_FIELDS`."""
        started = time.perf_counter()
        rows = batch.select([*GREY_COLUMNS, "status"]).to_pylist()
        wanted = [index for index, row in enumerate(rows) if row["status"] == "ok"]
        found = self.colorizer.color([grey_from(rows[i]) for i in wanted], confidence=self.confidence)
        colors = dict(zip(wanted, found, strict=True))
        spent = time.perf_counter() - started
        share = spent / max(len(wanted), 1)
        worked("predict", spent)
        return _with_colors(batch, colors, share)


def _with_colors(batch: pa.Table, colors: dict[int, Colored], seconds: float) -> pa.Table:
    indices = range(batch.num_rows)
    # Colors that are not numbers are left out here, and the writer reports the row as failed.
    good = {i: colored.ab for i, colored in colors.items() if np.isfinite(colored.ab).all()}
    columns = (
        [good[i].tobytes() if i in good else b"" for i in indices],
        [good[i].shape[1] if i in good else 0 for i in indices],
        [good[i].shape[2] if i in good else 0 for i in indices],
        [note("predict")] * batch.num_rows,
    )
    spent = [before + (seconds if i in colors else 0.0) for i, before in enumerate(batch["seconds"].to_pylist())]
    sure = [round(colors[i].confidence, 4) if i in good else 0.0 for i in indices]
    result = batch.drop_columns(list(GREY_COLUMNS))
    for name, numbers in (("seconds", spent), ("confidence", sure)):
        result = result.set_column(result.schema.get_field_index(name), name, pa.array(numbers, pa.float64()))
    for kind, values in zip(PREDICTED_FIELDS, columns, strict=True):
        result = result.append_column(kind, pa.array(values, kind.type))
    return result
