"""`colorize bulk --dry-run`: what there is to do, a sample of it really done, and what the rest would take.

The sample is fetched, colored and encoded on the cluster, on the device that the plan names, and thrown away.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from colorize.bulk.job import Prepared
from colorize.bulk.settings import BulkSettings
from colorize.cluster.plan import StagePlan
from colorize.cluster.session import plan_for_cluster, ray_session
from colorize.datasets.readers import ArchiveReader, Raw, Reader
from colorize.datasets.sources import Source
from colorize.imaging.formats import ImageDecodeError, SmallGrey, decode_small
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.colorizer import Colorizer
from colorize.predict.render import Provenance, render
from colorize.report.durations import duration

SAMPLE = 64  # pictures
SAMPLE_SECONDS = 30.0  # after which no further picture is begun
START_SECONDS = 20.0  # of Ray, of the workers and of the network: about what docs/performance.md measures
FORMATS = 8  # kinds of files that are named


@dataclass
class Sample:
    """What some pictures took, in seconds of one process, and how they ended."""

    colored: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    fetch: float = 0.0
    load: float = 0.0
    predict: float = 0.0
    write: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def pictures(self) -> int:
        """Pictures that were tried."""
        return self.colored + self.failed.total()


@dataclass(frozen=True)
class Forecast:
    """What a run would meet and take."""

    inputs: int
    bytes_in: int  # estimated from the sample where the listing does not say
    kinds: Counter[str]
    sample: Sample
    plan: StagePlan
    seconds: float
    price_per_hour: float | None

    def lines(self) -> list[str]:
        """For a person."""
        s, tried = self.sample, max(self.sample.pictures, 1)
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.most_common(FORMATS))
        failed = "".join(f", {count} {code}" for code, count in s.failed.most_common())
        spent = {"fetch": s.fetch, "load": s.load, "predict": s.predict, "write": s.write}
        stages = ", ".join(f"{stage} {1000 * seconds / tried:.0f} ms" for stage, seconds in spent.items())
        pool = f"{self.plan.min_actors} to {self.plan.max_actors} {self.plan.device} predictors"
        rate = self.inputs / max(self.seconds - START_SECONDS, 1e-3)
        written = s.bytes_out * self.inputs / tried
        lines = [
            f"{self.inputs:,} inputs, {self.bytes_in / 1e9:,.3f} GB: {kinds}",
            f"sample of {s.pictures}: {s.colored} colored{failed}; work for each: {stages}",
            f"estimate: {duration(self.seconds)} with {pool} ({rate:.1f} pictures/s), {written / 1e9:,.3f} GB written",
        ]
        if self.price_per_hour is not None:
            cost = self.seconds / 3600 * self.price_per_hour
            lines.append(f"cost: {cost:.2f} at {self.price_per_hour:g} an hour for the whole cluster")
        return lines


def dry_run(prepared: Prepared, price_per_hour: float | None = None) -> Forecast:
    """Counts the inputs of a job that was found usable, and measures a sample of them on its cluster.

    Raises:
        UsageError: the cluster cannot be used.
    """
    settings = prepared.settings
    with ray_session(prepared.job.ray_address) as may_grow:
        plan = plan_for_cluster(settings.pool, settings.run.start_seconds, may_grow)
        cpus = ray.cluster_resources().get("CPU", 1.0)
        return forecast(prepared.source, prepared.model.data, plan, settings, cpus, price_per_hour)


def forecast(
    source: Source, model: bytes, plan: StagePlan, settings: BulkSettings, cpus: float, price_per_hour: float | None
) -> Forecast:
    """Measures a sample on the connected cluster, which has so many CPUs, and reckons with the plan's resources."""
    units = sampled_units(source.units)
    task: Any = ray.remote(num_cpus=plan.cpus_per_actor, num_gpus=plan.gpus_per_actor, max_retries=1)(measure)
    sample: Sample = ray.get(task.remote(source.reader, units, ray.put(model), plan, settings))
    sizes = source.units["size"]
    known = pc.mean(sizes.filter(pc.greater_equal(sizes, 0))).as_py() if source.parts is None else None
    average = sample.bytes_in / max(sample.pictures, 1) if known is None else known
    return Forecast(
        inputs=source.total,
        bytes_in=round(average * source.total),
        kinds=kinds_of(source),
        sample=sample,
        plan=plan,
        seconds=START_SECONDS + work_seconds(sample, source.total, plan, cpus),
        price_per_hour=price_per_hour,
    )


def work_seconds(sample: Sample, inputs: int, plan: StagePlan, cpus: float) -> float:
    """How long the slowest of three lines takes: the predictors, the CPUs that they leave, and waiting for storage.

    Tasks that wait give their CPU to others: of those there are `1 / task_cpus` for each CPU.
    """
    each = inputs / max(sample.pictures, 1)
    left = max(cpus - plan.max_actors * plan.cpus_per_actor, plan.task_cpus)
    busy = sample.load + sample.write
    lines = sample.predict / plan.max_actors, busy / left, (sample.fetch + busy) * plan.task_cpus / left
    return each * max(lines)


def kinds_of(source: Source) -> Counter[str]:
    """Inputs by suffix; rows of archives count as such."""
    if source.parts is not None:
        return Counter({f"rows of {len(source.versions):,} archives": source.total})
    return Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in source.names())


def sampled_units(units: pa.Table, count: int = SAMPLE) -> pa.Table:
    """Some units by chance, the same ones every time."""
    chosen = np.random.default_rng(0).permutation(units.num_rows)[:count]
    return pa.concat_tables([units.slice(index, 1) for index in chosen.tolist()])


def measure(reader: Reader, units: pa.Table, model: bytes, plan: StagePlan, settings: BulkSettings) -> Sample:
    """Fetches, colors and encodes a sample in this process, and says what that took."""
    torch.set_num_threads(max(1, int(plan.cpus_per_actor)))
    colorizer = Colorizer.configured(
        load_checkpoint(model).model, settings.colorizer, batch_size=plan.batch_size, device=plan.device
    )
    sample, began = Sample(), time.perf_counter()
    for raws in _timed(_steps(reader, units), sample):
        small = _load(raws, sample, settings)
        started = time.perf_counter()
        colors = colorizer.color([grey.luma for _, grey in small], confidence=settings.run.confidence)
        sample.predict += time.perf_counter() - started
        for (raw, _), colored in zip(small, colors, strict=True):
            _write(raw, colored.ab, sample, settings)
        if time.perf_counter() - began > SAMPLE_SECONDS or sample.pictures >= SAMPLE:
            break
    return sample


def _steps(reader: Reader, units: pa.Table) -> Iterator[list[Raw]]:
    """The sample a few pictures at a time; of an archive's run of rows only the first few."""
    if not isinstance(reader, ArchiveReader):
        yield from reader.fetch(units)
        return
    for index in range(units.num_rows):
        yield next(reader.fetch(units.slice(index, 1)), [])


def _timed(steps: Iterator[list[Raw]], sample: Sample) -> Iterator[list[Raw]]:
    """The same steps; how long each was waited for counts as fetching."""
    while True:
        started = time.perf_counter()
        raws = next(steps, None)
        sample.fetch += time.perf_counter() - started
        if raws is None:
            return
        yield raws


def _load(raws: list[Raw], sample: Sample, settings: BulkSettings) -> list[tuple[Raw, SmallGrey]]:
    """The small grey pictures of those that can be read."""
    found = []
    for raw in raws:
        sample.bytes_in += len(raw.data)
        if raw.error:
            sample.failed[raw.error] += 1
            continue
        started = time.perf_counter()
        try:
            found.append(
                (raw, decode_small(raw.data, settings.colorizer.size**2, max_pixels=settings.limits.max_pixels))
            )
        except ImageDecodeError as error:
            sample.failed[error.code] += 1
        sample.load += time.perf_counter() - started
    return found


def _write(raw: Raw, ab: Any, sample: Sample, settings: BulkSettings) -> None:
    started = time.perf_counter()
    try:
        done = render(
            raw.data,
            ab,
            Provenance("", "", raw.path, "", digital_source_type=settings.output.digital_source_type),
            max_pixels=settings.limits.max_pixels,
            subsampling=settings.output.subsampling,
        )
    except ImageDecodeError as error:
        sample.failed[error.code] += 1
    else:
        sample.colored += 1
        sample.bytes_out += len(done.data)
    sample.write += time.perf_counter() - started
