"""The predict stage as the driver knows it: torch is imported where the network runs, and nowhere else."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


class Predictor:
    """`colorize.bulk.predictor.Predictor`, made in the process that this is made in."""

    def __init__(self, *args: Any, **options: Any) -> None:
        from colorize.bulk.predictor import Predictor as WithTorch

        self.predict = WithTorch(*args, **options)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """See there."""
        return self.predict(batch)
