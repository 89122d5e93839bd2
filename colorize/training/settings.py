"""Everything that training can be told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from colorize.config import Device, Settings


class ModelSettings(Settings):
    """Which network, and how it starts."""

    name: str = Field("unet", description="a registered model's name")
    args: dict[str, Any] = Field(default_factory=dict, description="its constructor's arguments")
    pretrained: bool = Field(False, description="start the encoder from ImageNet weights")
    frozen_stages: int = Field(0, ge=0, description="finest encoder stages, the stem included, that stay as they are")


class DataSettings(Settings):
    """Which pictures, and how often each."""

    image_column: str = Field("image", description="Parquet column with encoded bytes")
    short_side: int = Field(128, ge=32, description="pictures are scaled down to it once, when they are read")
    limit: int | None = Field(None, ge=1, description="read so many training pictures at most")
    val_fraction: float = Field(0.1, ge=0, lt=1, description="held out where no column and no folder says what is")
    tolerate_broken: float = Field(0.01, ge=0, le=1, description="fraction of pictures that may be broken")
    balance: float = Field(
        1.0, ge=0, le=1, description="a source of n pictures is drawn as if it had n**balance; 1 is as they come"
    )


class AugmentSettings(Settings):
    """Random geometry, and the damage that old scans show. Each `p_` is a probability per picture."""

    min_area: float = Field(0.35, gt=0, le=1, description="smallest crop, as a fraction of the picture's area")
    p_flip: float = Field(0.5, ge=0, le=1, description="mirror left to right")
    p_spectrum: float = Field(0.25, ge=0, le=1, description="an emulsion that sees colors unlike a modern grey")
    p_blur: float = Field(0.3, ge=0, le=1, description="out of focus, or scaled up")
    p_gamma: float = Field(0.5, ge=0, le=1, description="over- or under-exposed")
    p_fade: float = Field(0.35, ge=0, le=1, description="blacks turned grey, whites turned dull")
    p_shade: float = Field(0.15, ge=0, le=1, description="one side darker than the other")
    p_grain: float = Field(0.3, ge=0, le=1, description="film grain")
    p_scratches: float = Field(0.1, ge=0, le=1, description="dust and vertical scratches")


class LossSettings(Settings):
    """Bins: rebalanced cross-entropy on soft targets (Zhang et al. 2016), plus a Huber distance of the decoded ab."""

    neighbors: int = Field(5, ge=1, description="bins that share a target color")
    sigma: float = Field(5.0, gt=0, description="spread of a target color over those bins, Lab units")
    uniform: float = Field(0.5, ge=0, le=1, description="how far the frequencies of colors are evened out first")
    rebalance: float = Field(0.5, ge=0, le=1, description="how much rare colors weigh: 0 as others, 1 inversely")
    huber: float = Field(0.3, ge=0, description="weight of the distance between decoded and true ab")


class OptimizerSettings(Settings):
    """AdamW on a warm-up followed by a half cosine, and the moving average of the weights that is kept."""

    learning_rate: float = Field(1e-3, gt=0)
    encoder_factor: float = Field(0.3, gt=0, description="a pretrained encoder learns so much slower")
    weight_decay: float = Field(0.02, ge=0)
    warmup: float = Field(0.04, ge=0, lt=1, description="fraction of the training over which the rate rises")
    clip_norm: float = Field(2.0, gt=0, description="longest gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the averaged weights, which are what is saved")


class ScheduleSettings(Settings):
    """How long, and at which sizes."""

    epochs: int = Field(12, ge=1)
    batch_size: int = Field(32, ge=1)
    sizes: list[int] = Field([128, 160, 192], min_length=1, description="areas size x size, for equal spans of time")
    epoch_steps: int | None = Field(None, ge=1, description="steps of an epoch; None is as many as there are batches")


class ValidationSettings(Settings):
    """The measurement at the end of an epoch."""

    size: int = Field(256, ge=32, description="the network sees about size x size pixels, as in use")
    limit: int = Field(400, ge=1, description="validation pictures that are measured")
    samples: int = Field(8, ge=0, description="pictures on the sample sheet")


class TrainerSettings(Settings):
    """How Ray Train runs it."""

    workers: int = Field(1, ge=1, description="data-parallel processes, one per GPU or share of the CPUs")
    cpus_per_worker: float | None = Field(None, gt=0, description="None: half of the CPUs, shared between the workers")
    device: Device = Field("auto", description="cuda where the cluster has GPUs")
    retries: int = Field(2, ge=0, description="how often dead workers are replaced before the run fails")
    shuffle_rows: int = Field(2048, ge=1, description="pictures in each worker's shuffle buffer")


class TrainSettings(Settings):
    """A whole training run."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    validation: ValidationSettings = ValidationSettings()
    trainer: TrainerSettings = TrainerSettings()
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="arithmetic of the forward pass")
    seed: int = 0
