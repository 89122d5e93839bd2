"""The actors that hold the network."""

from __future__ import annotations

from pydantic import Field, model_validator

from colorize.settings import Device, Settings


class PoolSettings(Settings):
    """The actors that hold the network. `None` means: sized from the cluster."""

    device: Device = "auto"
    min: int | None = Field(None, ge=1, description="predictors that are always up")
    max: int | None = Field(None, ge=1, description="predictors at most")
    batch_size: int | None = Field(None, ge=1, le=4096, description="images of one shape in a forward pass of a GPU")
    cpus_per_actor: float | None = Field(
        None, ge=0.01, allow_inf_nan=False, description="CPUs (and threads) of a predictor"
    )
    gpus_per_actor: float | None = Field(None, ge=0, description="GPUs of a predictor; 0.5 puts two on one GPU")

    @model_validator(mode="after")
    def _minimum_within_maximum(self) -> PoolSettings:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"pool.min={self.min} is above pool.max={self.max}")
        return self
