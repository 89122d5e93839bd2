"""A proxy of the predict stage that lets the driver build the pipeline without importing torch."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


class Predictor:
    """Creates a `colorize.bulk.predictor.Predictor` in the actor's process and forwards calls to it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        from colorize.bulk.predictor import Predictor as WithTorch

        self.predict = WithTorch(*args, **options)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self.predict(batch)
