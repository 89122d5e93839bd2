"""From settings to a running `TorchTrainer`: datasets, workers, storage."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import ray
import torch
from ray._private.state import state as cluster_state
from ray.data import DataContext, Dataset, ExecutionOptions
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from colorize.cluster.attempts import task_attempt
from colorize.cluster.session import ray_session
from colorize.datasets.readers import Reader
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import Source, open_source
from colorize.datasets.splits import Split, split_of, split_row
from colorize.errors import StoppedError, UsageError
from colorize.imaging.color import rgb_to_lab
from colorize.imaging.formats import whole
from colorize.models import BinModel, ColorModel
from colorize.storage.root import Storage
from colorize.training.epoch_plan import COLUMNS, EpochPlan, plan_epoch
from colorize.training.feed import is_wanted, training_rows
from colorize.training.journal import follow
from colorize.training.loop import LoopConfig, train_loop
from colorize.training.losses import count_bins, shrink
from colorize.training.run_folder import RAY_STATE, RunFolder
from colorize.training.settings import TrainerSettings, TrainSettings
from colorize.training.step import create_state

PRIOR_PICTURES = 512  # about so many are enough to know how often each color occurs
PRIOR_BLOCKS = 64  # that they are taken from: one alone may hold pictures of one kind
LOAD_CPUS = 0.5


@dataclass(frozen=True)
class TrainJob:
    """What one training run is asked to do."""

    settings: TrainSettings
    data: str
    output: str
    resume: bool = False
    ray_address: str | None = None


def run_training(job: TrainJob) -> dict[str, float]:
    """Trains to the end and returns the last epoch's figures.

    Raises:
        UsageError: data, output, settings or cluster cannot be used.
        StoppedError: training cannot go on as it is (loss no number, too many broken pictures).
        RuntimeError: training broke down (workers that keep dying).
    """
    source = _open(job)
    bins = _bins(create_state(job.settings).model)  # what no worker could train is said before a cluster starts
    plan = plan_epoch(source, job.settings.data)
    folder = RunFolder(job.output, job.settings)
    folder.check(job.resume)
    with ray_session(job.ray_address):
        scaling = _scaling(job.settings.trainer, ray.cluster_resources(), _most_resources())
        folder.claim(job.resume)
        splits: tuple[Split, ...] = ("train", "val", "test") if job.settings.validation.test else ("train", "val")
        datasets: dict[str, Dataset] = {split: _dataset(source, split, job.settings, plan) for split in splits}
        prior = None if bins is None else _prior(source, bins, job.settings, plan)
        config = LoopConfig(job.settings, folder.storage, prior, plan.pictures)
        with follow(folder.storage, print):
            return _fit(_trainer(folder.storage, scaling, config, datasets), folder)


def _fit(trainer: TorchTrainer, folder: RunFolder) -> dict[str, float]:
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        if reason := folder.failure():
            raise StoppedError(f"training stopped: {reason}") from error
        raise RuntimeError(f"training stopped: {str(error).strip().splitlines()[-1]}") from error
    if reason := folder.failure():  # a further attempt has found it and ended
        raise StoppedError(f"training stopped: {reason}")
    return dict(result.metrics or {})


def _open(job: TrainJob) -> Source:
    data = job.settings.data
    source = open_source(job.data, SourceSettings(image_column=data.image_column, follow_links=data.follow_links))
    return source.with_columns(*COLUMNS)


def _trainer(
    storage: Storage, scaling: ScalingConfig, config: LoopConfig, datasets: Mapping[str, Dataset]
) -> TorchTrainer:
    return TorchTrainer(
        train_loop,
        train_loop_config={"config": config},
        scaling_config=scaling,
        torch_config=_torch_config(scaling),
        datasets=dict(datasets),
        dataset_config=_data_config(datasets, config.settings),
        run_config=RunConfig(
            name=RAY_STATE,  # the same name and storage as before is how Ray Train resumes
            storage_path=storage.root,
            storage_filesystem=pafs.PyFileSystem(pafs.FSSpecHandler(storage.fs)),
            failure_config=FailureConfig(max_failures=config.settings.trainer.retries),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )


def _torch_config(scaling: ScalingConfig) -> TorchConfig:
    """Workers on GPUs sum what lies in a CPU's memory, too, as a palette's pixels do: NCCL alone cannot."""
    return TorchConfig(backend="cpu:gloo,cuda:nccl" if scaling.use_gpu else "gloo")


def _data_config(splits: Iterable[str], settings: TrainSettings) -> DataConfig:
    """The first so many pictures of a split are the same ones in every epoch: those that have a limit keep an order."""
    ordered = ExecutionOptions(preserve_order=True)
    limited = [split for split in splits if _limit(split, settings) is not None]
    return DataConfig(datasets_to_split=["train"], execution_options=dict.fromkeys(limited, ordered))


def _limit(split: str, settings: TrainSettings) -> int | None:
    return {"train": settings.data.limit, "val": settings.validation.limit}.get(split)


def _most_resources() -> Mapping[str, float]:
    """What the cluster can grow to, by its configuration: nothing beyond what it has where it does not grow."""
    return cluster_state.get_max_resources_from_cluster_config() or {}


def _scaling(trainer: TrainerSettings, now: Mapping[str, float], most: Mapping[str, float]) -> ScalingConfig:
    """Workers that fit the cluster, with CPUs left for loading: a plan that cannot run is refused.

    Args:
        trainer: what is asked for.
        now: the cluster's resources.
        most: what it can grow to; Ray Train waits for that.

    Raises:
        UsageError: it asks for more than there can be.
    """
    cpus, gpus = (max(now.get(kind, 0.0), most.get(kind, 0.0)) for kind in ("CPU", "GPU"))
    workers = trainer.workers
    use_gpu = gpus >= 1 and trainer.device != "cpu"
    if (trainer.device == "cuda" and gpus < workers) or (use_gpu and gpus < workers):
        raise UsageError(f"trainer.workers={workers} need a GPU each; the cluster has {gpus:g}: lower trainer.workers")
    free_now = now.get("CPU", 0.0) - 2 * LOAD_CPUS
    share = max(0.5, free_now // (2 * workers) or free_now / workers)
    each = trainer.cpus_per_worker or (1.0 if use_gpu else share)
    if each * workers > cpus - 2 * LOAD_CPUS:
        raise UsageError(
            f"trainer.workers={workers} of {each:g} CPUs and loading beside them need {each * workers + 1:g} CPUs; "
            f"the cluster has {cpus:g} CPUs: lower trainer.workers or trainer.cpus_per_worker"
        )
    return ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": each, "GPU": int(use_gpu)})


@dataclass(frozen=True)
class SplitFeed:
    """Which pictures of a source a dataset holds, in one picklable piece.

    Attributes:
        of_several: there are several archives; else one's name says nothing about its split.
        shares: see `EpochPlan`.
        fixed: the same pictures, and the same parts of them, each time; else drawn anew in every epoch.
    """

    reader: Reader
    of_several: bool
    split: Split
    settings: TrainSettings
    shares: Mapping[str, float]
    fixed: bool


def _dataset(source: Source, split: Split, settings: TrainSettings, plan: EpochPlan) -> Dataset:
    """A split as rows of `rgb` and `broken`, decoded anew (with another crop) in every epoch."""
    feed = _feed(source, split, settings, plan, fixed=split != "train")
    return _rows(_shuffled_blocks(source, settings), source, feed, _limit(split, settings) or source.total)


def _feed(source: Source, split: Split, settings: TrainSettings, plan: EpochPlan, fixed: bool) -> SplitFeed:
    shares = plan.shares if split == "train" else {}
    return SplitFeed(source.reader, len(source.parts or ()) > 1, split, settings, shares, fixed)


def _shuffled_blocks(source: Source, settings: TrainSettings) -> list[pa.Table]:
    """The source's blocks, so that the first of them are like the others; in the same order in every run."""
    blocks = source.blocks()
    np.random.default_rng(settings.seed).shuffle(blocks)
    return blocks


def _rows(blocks: list[pa.Table], source: Source, feed: SplitFeed, limit: int) -> Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return (
        ray.data.from_arrow(blocks)
        .map_batches(
            partial(_fetch_split, feed=feed),
            batch_size=None,  # a block is a task's work
            batch_format="pyarrow",
            num_cpus=LOAD_CPUS,
        )
        .limit(limit)
        .map_batches(
            partial(_decode, side=feed.settings.data.short_side, random=not feed.fixed),
            batch_size=64,
            batch_format="pandas",
            num_cpus=LOAD_CPUS,
        )
    )


def _fetch_split(units: pa.Table, *, feed: SplitFeed) -> Iterator[pa.Table]:
    settings = feed.settings
    random = np.random.default_rng(_seed(units, settings) if feed.fixed or settings.data.limit else None)
    for raws in feed.reader.fetch(units):
        chosen = []
        for raw in raws:
            said = split_row(raw, feed.of_several)
            wanted = not raw.skipped and is_wanted(said, settings.data)
            if wanted and split_of(said, settings.data.split) == feed.split:
                chosen.append((raw, feed.shares.get(str(said.get("source", "")), 1.0)))
        rows = [{"data": whole(raw.data)} for raw, share in chosen if random.random() < share]
        yield pa.Table.from_pylist(rows, schema=pa.schema([("data", pa.binary())]))


def _seed(units: pa.Table, settings: TrainSettings) -> list[int]:
    """Of what is drawn once for all from these units."""
    return [settings.seed, zlib.crc32(units["name"][0].as_py().encode()), units["first"][0].as_py()]


def _decode(batch: Any, *, side: int, random: bool) -> dict[str, Any]:
    positions = np.random.default_rng().random(len(batch)) if random else np.full(len(batch), 0.5)
    rows = training_rows(batch["data"], side, positions, isolated=task_attempt() > 0)
    return {"rgb": np.stack([row["rgb"] for row in rows]), "broken": np.array([row["broken"] for row in rows])}


def _bins(model: ColorModel) -> torch.Tensor | None:
    return model.bins_Q2 if isinstance(model, BinModel) else None


def _prior(source: Source, bins_Q2: torch.Tensor, settings: TrainSettings, plan: EpochPlan) -> torch.Tensor:
    """How often each bin occurs in a sample of the training pictures, the same sample in every run: `(Q,)`."""
    blocks = _shuffled_blocks(source, settings)[:PRIOR_BLOCKS]
    each = math.ceil(PRIOR_PICTURES / len(blocks) / max(plan.fraction, 1e-3))
    feed = _feed(source, "train", settings, plan, fixed=True)
    counts = torch.zeros(len(bins_Q2))
    sample = _rows([first_units(block, each) for block in blocks], source, feed, source.total)
    for batch in sample.iter_torch_batches(batch_size=64):
        rgb = batch["rgb"][~batch["broken"].bool()].permute(0, 3, 1, 2).float() / 255
        ab = rgb_to_lab(rgb)[:, 1:]
        counts += count_bins(shrink(ab, (ab.shape[2] // 4, ab.shape[3] // 4)), bins_Q2)
    return counts


def first_units(units: pa.Table, pictures: int) -> pa.Table:
    """So many pictures, from the first on, of a table of `UNIT_SCHEMA`."""
    rows = units.to_pylist()
    before = np.cumsum([0, *(row["count"] for row in rows[:-1])])
    counts = [min(row["count"], pictures - int(done)) for row, done in zip(rows, before, strict=True)]
    kept = [row | {"count": count} for row, count in zip(rows, counts, strict=True) if count > 0]
    return pa.Table.from_pylist(kept, schema=units.schema)
