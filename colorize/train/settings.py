"""Settings of a training run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat

from colorize.datasets.splits import SplitSettings
from colorize.settings import Device, Settings


class ModelSettings(Settings):
    """The network and its initial weights."""

    name: str = Field("unet", description="a registered model's name")
    args: dict[str, Any] = Field(default_factory=dict, description="its constructor's arguments")
    weights: str | None = Field(
        None,
        description="start from these weights: a shipped name, a file or a run that every worker can read",
    )
    pretrained: bool = Field(False, description="start the encoder from ImageNet weights")
    frozen_stages: int = Field(0, ge=0, description="number of finest encoder stages to freeze, including the stem")


class DataSettings(Settings):
    """The images to train on."""

    image_column: str = Field("image", description="Parquet column with encoded bytes")
    follow_links: bool = Field(False, description="follow links that lead out of the data; otherwise they fail")
    short_side: int = Field(128, ge=32, description="images are scaled down to this once, when they are read")
    limit: int | None = Field(None, ge=1, description="maximum number of training images")
    memory_gb: float | None = Field(
        None,
        ge=0,
        description="memory for decoded images, of all workers; more images are decoded again in each epoch; "
        "None: a third of the memory",
    )
    tolerate_broken: float = Field(0.01, ge=0, le=1, description="fraction of images that may be corrupt")
    balance: float = Field(
        1.0, ge=0, le=1, description="a source of n images is sampled as if it had n**balance; 1: as is"
    )
    aspects: list[PositiveFloat] = Field(
        [0.75, 1.0, 1.375],
        min_length=1,
        description="width / height of the crops; each image gets the nearest one; [1.0]: squares",
    )
    labels: list[str] | None = Field(None, description="only images whose column `label` holds one of these")
    sources: list[str] | None = Field(None, description="only images whose column `source` holds one of these")
    include: list[str] | None = Field(None, description="only images whose column `path` fits one of these globs")
    split: SplitSettings | None = Field(
        None, description="fractions to hold out; None goes by column `split`, folder or archive's name"
    )


class AugmentSettings(Settings):
    """Random geometry, and the damage that old scans show. Each `p_` is a probability per image."""

    min_area: float = Field(0.35, gt=0, le=1, description="smallest crop, as a fraction of the image's area")
    p_flip: float = Field(0.5, ge=0, le=1, description="mirror left to right")
    p_spectrum: float = Field(0.25, ge=0, le=1, description="an emulsion that sees colors unlike a modern grey")
    p_blur: float = Field(0.3, ge=0, le=1, description="out of focus, or scaled up")
    p_gamma: float = Field(0.5, ge=0, le=1, description="over- or under-exposed")
    p_fade: float = Field(0.35, ge=0, le=1, description="blacks turned grey, whites turned dull")
    p_shade: float = Field(0.15, ge=0, le=1, description="one side darker than the other")
    p_grain: float = Field(0.3, ge=0, le=1, description="film grain")
    p_scratches: float = Field(0.1, ge=0, le=1, description="dust and vertical scratches")


class LossSettings(Settings):
    """A distance by its name. Networks with bins use rebalanced cross-entropy on soft targets plus a Huber loss."""

    name: Literal["auto", "mse", "msle", "l1", "bce", "huber", "cross_entropy"] = Field(
        "auto", description="auto: bins if the network has them, else Huber; cross_entropy: for palettes"
    )
    neighbors: int = Field(5, ge=1, description="number of bins of a soft target")
    sigma: float = Field(5.0, gt=0, description="standard deviation of a soft target, Lab units")
    uniform: float = Field(0.5, ge=0, le=1, description="share of the uniform distribution in the color frequencies")
    rebalance: float = Field(0.5, ge=0, le=1, description="exponent of rebalancing: 0 none, 1 inverse frequency")
    huber: float = Field(0.3, ge=0, description="weight of the Huber loss of the decoded ab")
    perceptual: float = Field(
        0.0, ge=0, description="weight of the perceptual distance (EfficientNet-Lite0), for networks that predict ab"
    )
    colorfulness: float = Field(0.0, ge=0, description="weight of the colorfulness term, for the same networks")


class AdversarialSettings(Settings):
    """Adversarial training. The generator's loss is the discriminator's BCE plus the weighted `loss.name`."""

    loss_weight: float = Field(75.0, ge=0, description="weight of `loss.name`; the BCE has weight 1")
    max_accuracy: float = Field(0.8, gt=0.5, le=1, description="the discriminator is not trained above this accuracy")
    noise: float = Field(0.1, ge=0, description="standard deviation of input noise; inputs are in [-1, 1]")
    noise_every: int = Field(5, ge=1, description="add noise in every n-th epoch")
    learning_rate: float = Field(2e-4, gt=0, description="of the discriminator's Adam optimizer")
    width: int = Field(64, ge=1, description="channels of its first layer")
    after: float = Field(0.0, ge=0, lt=1, description="fraction of the training before the discriminator is used")


class OptimizerSettings(Settings):
    """Optimizer, learning rate schedule and moving average of the weights."""

    name: Literal["adamw", "adam", "rmsprop", "adadelta"] = "adamw"
    annealing: Literal["cosine", "none"] = Field("cosine", description="learning rate schedule after the warm-up")
    learning_rate: float = Field(1e-3, gt=0)
    encoder_factor: float = Field(0.3, gt=0, description="learning rate factor of a pretrained encoder")
    weight_decay: float = Field(0.02, ge=0)
    warmup: float = Field(0.04, ge=0, lt=1, description="fraction of the training with a rising learning rate")
    clip_norm: float | None = Field(2.0, gt=0, description="maximum norm of the gradient; None: no limit")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the averaged weights, which are saved; 0: save the last weights"
    )


class TrainerSettings(Settings):
    """Duration, image sizes and workers."""

    epochs: int = Field(12, ge=1)
    minutes: float | None = Field(None, gt=0, description="train for this time instead of `epochs`")
    batch_size: int = Field(32, ge=1, description="images per step and worker")
    sizes: list[int] = Field(
        [128, 160, 192],
        min_length=1,
        description="areas of size x size, for equal parts of the training",
    )
    epoch_steps: int | None = Field(None, ge=1, description="steps per epoch; None: each image once")
    save_minutes: float = Field(5.0, gt=0, description="how often to save the state within an epoch")
    workers: int = Field(1, ge=1, description="data-parallel processes, one per GPU or share of the CPUs")
    cpus_per_worker: float | None = Field(None, gt=0, description="None: half of the CPUs, divided by the workers")
    device: Device = Field("auto", description="auto: GPUs if the cluster has any")
    compile: bool = Field(False, description="torch.compile the network: takes a minute, speeds up GPUs")
    retries: int = Field(2, ge=0, description="how often to replace dead workers before the run fails")


class ValidationSettings(Settings):
    """Validation at the end of each epoch."""

    size: int = Field(256, ge=32, description="input of about size x size pixels, as in use")
    limit: int = Field(400, ge=1, description="maximum number of validation images")
    samples: int = Field(8, ge=0, description="images on the sample sheet")
    test: bool = Field(False, description="evaluate the best weights on the split `test` at the end: test.json")
    best: Literal["psnr_ab", "psnr", "mse", "pixel_accuracy"] = Field(
        "psnr_ab", description="the metric that selects best.safetensors"
    )


class TrainSettings(Settings):
    """All settings of a training run."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    adversarial: AdversarialSettings | None = None
    optimizer: OptimizerSettings = OptimizerSettings()
    validation: ValidationSettings = ValidationSettings()
    trainer: TrainerSettings = TrainerSettings()
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the forward pass; auto: bfloat16 on hardware that has it, else float32"
    )
    seed: int = 0
