"""Everything that training can be told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat

from colorize.datasets.splits import SplitSettings
from colorize.settings import Device, Settings


class ModelSettings(Settings):
    """Which network, and how it starts."""

    name: str = Field("unet", description="a registered model's name")
    args: dict[str, Any] = Field(default_factory=dict, description="its constructor's arguments")
    weights: str | None = Field(
        None,
        description="start from a model's weights: a shipped name, a file or a run, where every worker can read it",
    )
    pretrained: bool = Field(False, description="start the encoder from ImageNet weights")
    frozen_stages: int = Field(0, ge=0, description="finest encoder stages, the stem included, that stay as they are")


class DataSettings(Settings):
    """Which images, and how often each."""

    image_column: str = Field("image", description="Parquet column with encoded bytes")
    follow_links: bool = Field(False, description="read links that lead out of the data, too; else they fail")
    short_side: int = Field(128, ge=32, description="images are scaled down to it once, when they are read")
    limit: int | None = Field(None, ge=1, description="read so many training images at most")
    memory_gb: float | None = Field(
        None,
        ge=0,
        description="decoded images that all workers together keep in memory; more are decoded anew in each epoch; "
        "None: a third of the memory",
    )
    tolerate_broken: float = Field(0.01, ge=0, le=1, description="fraction of images that may be broken")
    balance: float = Field(
        1.0, ge=0, le=1, description="a source of n images is drawn as if it had n**balance; 1 is as they come"
    )
    aspects: list[PositiveFloat] = Field(
        [0.75, 1.0, 1.375],
        min_length=1,
        description="width / height that images are cut to, the nearest one; [1.0] makes squares",
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
    """A distance by its name, or for networks that predict bins what is below.

    Bins: rebalanced cross-entropy on soft targets (Zhang et al. 2016), plus a Huber distance of the decoded ab.
    """

    name: Literal["auto", "mse", "msle", "l1", "bce", "huber", "cross_entropy"] = Field(
        "auto", description="auto: bins where the network has them, else Huber; cross_entropy: a palette's colors"
    )
    neighbors: int = Field(5, ge=1, description="bins that share a target color")
    sigma: float = Field(5.0, gt=0, description="spread of a target color over those bins, Lab units")
    uniform: float = Field(0.5, ge=0, le=1, description="how far the frequencies of colors are evened out first")
    rebalance: float = Field(0.5, ge=0, le=1, description="how much rare colors weigh: 0 as others, 1 inversely")
    huber: float = Field(0.3, ge=0, description="weight of the distance between decoded and true ab")
    perceptual: float = Field(
        0.0, ge=0, description="weight of the distance of EfficientNet-Lite0's features, for networks that predict ab"
    )
    colorfulness: float = Field(0.0, ge=0, description="weight of a reward for vivid colors, for the same networks")


class AdversarialSettings(Settings):
    """A discriminator to deceive: its verdict, as BCE, plus the weighted loss make the generator's loss."""

    loss_weight: float = Field(75.0, ge=0, description="weight of `loss.name` beside the discriminator's verdict")
    max_accuracy: float = Field(0.8, gt=0.5, le=1, description="a discriminator better than this is not trained")
    noise: float = Field(0.1, ge=0, description="deviation of noise on its input, which is in [-1, 1]")
    noise_every: int = Field(5, ge=1, description="the noise is on in every so many-th epoch")
    learning_rate: float = Field(2e-4, gt=0, description="of the discriminator, which Adam trains")
    width: int = Field(64, ge=1, description="channels of its first layer")
    after: float = Field(0.0, ge=0, lt=1, description="fraction of the training that is done without it")


class PaletteSettings(Settings):
    """k-means over the training images' pixels, for networks that have a palette."""

    sample: float = Field(0.4, gt=0, le=1, description="fraction of the pixels that is drawn")


class OptimizerSettings(Settings):
    """The rate warms up, then follows a half cosine; and the moving average of the weights that is kept."""

    name: Literal["adamw", "adam", "rmsprop", "adadelta"] = "adamw"
    annealing: Literal["cosine", "none"] = Field("cosine", description="how the rate falls; none keeps it")
    learning_rate: float = Field(1e-3, gt=0)
    encoder_factor: float = Field(0.3, gt=0, description="an encoder that is trained already learns so much slower")
    weight_decay: float = Field(0.02, ge=0)
    warmup: float = Field(0.04, ge=0, lt=1, description="fraction of the training over which the rate rises")
    clip_norm: float | None = Field(2.0, gt=0, description="longest gradient; None for any")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="of the averaged weights, which are what is saved; 0 saves the last ones"
    )


class TrainerSettings(Settings):
    """How long, at which sizes, and by how many workers."""

    epochs: int = Field(12, ge=1)
    minutes: float | None = Field(None, gt=0, description="train for so long instead of for `epochs`")
    batch_size: int = Field(32, ge=1, description="images in a step of each worker")
    sizes: list[int] = Field(
        [128, 160, 192], min_length=1, description="areas size x size, for equal parts of training"
    )
    epoch_steps: int | None = Field(None, ge=1, description="steps of an epoch; None: as many as show each image once")
    save_minutes: float = Field(5.0, gt=0, description="how often the state to resume from is saved, within epochs too")
    workers: int = Field(1, ge=1, description="data-parallel processes, one per GPU or share of the CPUs")
    cpus_per_worker: float | None = Field(None, gt=0, description="None: half of the CPUs, shared between the workers")
    device: Device = Field("auto", description="cuda where the cluster has GPUs")
    compile: bool = Field(False, description="torch.compile the network: a minute to start, faster steps on GPUs")
    retries: int = Field(2, ge=0, description="how often dead workers are replaced before the run fails")


class ValidationSettings(Settings):
    """The measurement at the end of an epoch."""

    size: int = Field(256, ge=32, description="the network sees about size x size pixels, as in use")
    limit: int = Field(400, ge=1, description="validation images that are measured")
    samples: int = Field(8, ge=0, description="images on the sample sheet")
    test: bool = Field(False, description="at the end measure the best weights on the split `test`: test.json")
    best: Literal["psnr_ab", "psnr", "mse", "pixel_accuracy"] = Field(
        "psnr_ab", description="the figure by which best.safetensors is chosen"
    )


class TrainSettings(Settings):
    """A whole training run."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    adversarial: AdversarialSettings | None = None
    palette: PaletteSettings = PaletteSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    validation: ValidationSettings = ValidationSettings()
    trainer: TrainerSettings = TrainerSettings()
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of the forward pass; auto is bfloat16 on hardware that has it, else float32"
    )
    seed: int = 0
