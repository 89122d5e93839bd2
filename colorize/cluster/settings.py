"""Settings of the actor pool."""

from __future__ import annotations

from pydantic import Field, model_validator

from colorize.settings import Device, Settings


class PoolSettings(Settings):
    """The actors that run the network. None: sized from the cluster."""

    device: Device = "auto"
    min: int | None = Field(None, ge=1, description="minimum number of predictors")
    max: int | None = Field(None, ge=1, description="maximum number of predictors")
    batch_size: int | None = Field(None, ge=1, le=4096, description="images of one shape in a forward pass on a GPU")
    cpus_per_actor: float | None = Field(
        None, ge=0.01, allow_inf_nan=False, description="CPUs and threads per predictor"
    )
    gpus_per_actor: float | None = Field(None, ge=0, description="GPUs per predictor; 0.5 puts two on one GPU")

    @model_validator(mode="after")
    def _minimum_within_maximum(self) -> PoolSettings:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"pool.min={self.min} is above pool.max={self.max}")
        return self
