"""`colorize bulk --dry-run`: counts the remaining inputs, colors a sample, and estimates time and cost.

The sample goes through the pipeline of a real run, on the cluster, into a sink that stores nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from colorize.bulk.job import Prepared
from colorize.bulk.pipeline import stream
from colorize.bulk.progress import Totals
from colorize.bulk.resume import Work
from colorize.bulk.sinks import DiscardSink
from colorize.cluster.plan import StagePlan
from colorize.cluster.session import plan_for_cluster, ray_session
from colorize.datasets.sources import Source
from colorize.errors import say
from colorize.report.durations import duration

SAMPLE = 64  # images
START_SECONDS = 20.0  # start-up of Ray, workers and network, approximately
FORMATS = 8  # maximum number of file types listed


@dataclass
class Sample:
    """Results of a sample of the inputs, and the time they took in seconds of one process."""

    ok: int = 0
    others: Counter[str] = field(default_factory=Counter)  # skipped and failed inputs by error code
    fetch: float = 0.0  # waiting for storage
    predict: float = 0.0
    compose: float = 0.0  # decoding, composing and encoding
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def inputs(self) -> int:
        """Number of inputs in the sample."""
        return self.ok + self.others.total()


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The estimate for a run."""

    inputs: int
    earlier: int  # completed by earlier runs
    deferred: int = 0  # remaining, but not part of the run
    bytes_in: int = 0  # estimated from the sample if the listing has no sizes
    kinds: Counter[str] = field(default_factory=Counter)
    sample: Sample = field(default_factory=Sample)
    plan: StagePlan | None = None  # None if nothing is left to do
    seconds: float = 0.0
    price_per_hour: float | None = None

    @property
    def bytes_out(self) -> int:
        """Bytes to be written, estimated from the sample."""
        return round(self.sample.bytes_out * self.inputs / max(self.sample.inputs, 1))

    @property
    def cost(self) -> float | None:
        """In the currency of the price; None if there is no price."""
        return None if self.price_per_hour is None else self.seconds / 3600 * self.price_per_hour

    def as_dict(self) -> dict[str, Any]:
        """The estimate for JSON."""
        return {
            "inputs": self.inputs,
            "done_before": self.earlier,
            "left": self.deferred,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "kinds": dict(self.kinds),
            "sample": asdict(self.sample),
            "plan": asdict(self.plan) if self.plan else None,
            "seconds": round(self.seconds, 1),
            "cost": self.cost,
        }

    def lines(self) -> list[str]:
        """The estimate as text."""
        if self.plan is None:
            return [f"nothing to do: earlier runs have completed all {self.earlier:,} inputs"]
        s, tried = self.sample, max(self.sample.inputs, 1)
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.most_common(FORMATS))
        earlier = f" ({self.earlier:,} more were completed by earlier runs)" if self.earlier else ""
        others = "".join(f", {count} {code}" for code, count in s.others.most_common())
        spent = {"fetch": s.fetch, "predict": s.predict, "decode, compose and encode": s.compose}
        stages = ", ".join(f"{stage} {1000 * seconds / tried:.0f} ms" for stage, seconds in spent.items())
        pool = f"{self.plan.min_actors} to {self.plan.max_actors} {self.plan.device} predictors"
        rate, written = self.inputs / max(self.seconds - START_SECONDS, 1e-3), self.bytes_out / 1e9
        lines = [
            f"{self.inputs:,} inputs, {self.bytes_in / 1e9:,.3f} GB: {kinds}{earlier}",
            f"sample of {s.inputs}: {s.ok} colored{others}; per input: {stages}",
            f"estimate: {duration(self.seconds)} with {pool} ({rate:.1f} images/s), {written:,.3f} GB written",
        ]
        if self.deferred:
            lines.append(f"{self.deferred:,} more inputs remain for a run without --limit")
        if self.cost is not None:
            lines.append(f"cost: {self.cost:.2f} at {self.price_per_hour:g} per hour for the whole cluster")
        return lines


def dry_run(prepared: Prepared, price_per_hour: float | None = None) -> Forecast:
    """Counts the remaining inputs of a prepared job, and colors a sample of them on its cluster.

    Raises:
        UsageError: the cluster cannot be used.
    """
    settings = prepared.settings
    ledger = prepared.ledger()
    work = None if ledger.needs_cluster else prepared.work(ledger)
    if work is not None and not work.remaining.total:
        return Forecast(inputs=0, earlier=work.earlier.total())
    if prepared.job.verbosity != "quiet":
        say(f"coloring a sample of at most {SAMPLE} inputs", sys.stderr)
    with ray_session(prepared.job.ray_address) as may_grow:
        plan = plan_for_cluster(settings.pool, settings.run.start_seconds, may_grow)
        work = work or prepared.work(ledger)
        sample = measure(prepared, work, plan)
        cpus = ray.cluster_resources().get("CPU", 1.0)
    remaining = work.remaining
    return Forecast(
        inputs=remaining.total,
        earlier=work.earlier.total(),
        deferred=work.deferred,
        bytes_in=_bytes_of(remaining, sample),
        kinds=kinds_of(remaining),
        sample=sample,
        plan=plan,
        seconds=START_SECONDS + work_seconds(sample, remaining.total, plan, cpus),
        price_per_hour=price_per_hour,
    )


def measure(prepared: Prepared, work: Work, plan: StagePlan) -> Sample:
    """Colors a sample of the remaining inputs and measures it."""
    units = sampled_units(work.remaining.units)
    if not units.num_rows:
        return Sample()
    source = work.remaining.only(units, work.remaining.parts)
    loader, writer = prepared.loader(work.run), prepared.writer(DiscardSink())
    totals, found = Totals(source.total), Sample()
    for summary in stream(source, loader, writer, plan, prepared.settings, partial(bytes, prepared.model.data)):
        totals.add(summary)
        found.fetch += summary["fetch_seconds"]
        found.predict += summary["predict_seconds"]
    found.ok, found.others = totals.ok, totals.errors
    found.compose = totals.work_seconds - found.predict
    found.bytes_in, found.bytes_out = totals.bytes_in, totals.bytes_out
    return found


def work_seconds(sample: Sample, inputs: int, plan: StagePlan, cpus: float) -> float:
    """Seconds for `inputs` inputs, limited by the predictors, by the other CPUs, or by waiting for storage.

    `1 / task_cpus` tasks share a CPU, and tasks that wait for storage leave it to the others.
    """
    scale = inputs / max(sample.inputs, 1)
    task_cpus = max(cpus - plan.max_actors * plan.cpus_per_actor, plan.task_cpus)
    busy = sample.compose
    limits = sample.predict / plan.max_actors, busy / task_cpus, (sample.fetch + busy) * plan.task_cpus / task_cpus
    return scale * max(limits)


def kinds_of(source: Source) -> Counter[str]:
    """Number of inputs by file name suffix, or the rows of archives."""
    if source.parts is not None:
        return Counter({f"rows of {len(source.versions):,} archives": source.total})
    return Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in source.names())


def sampled_units(units: pa.Table, count: int = SAMPLE) -> pa.Table:
    """About `count` random inputs, the same every time; only the first few rows of each run of an archive."""
    if not units.num_rows:
        return units
    chosen = sorted(np.random.default_rng(0).permutation(units.num_rows)[:count].tolist())
    some = pa.concat_tables([units.slice(index, 1) for index in chosen])
    rows = pc.min_element_wise(some["count"], -(-count // some.num_rows)).cast(units.schema.field("count").type)
    return some.set_column(units.schema.get_field_index("count"), "count", rows)


def _bytes_of(source: Source, sample: Sample) -> int:
    sizes = source.units["size"]
    known = pc.mean(sizes.filter(pc.greater_equal(sizes, 0))).as_py() if source.parts is None else None
    average = sample.bytes_in / max(sample.inputs, 1) if known is None else known
    return round(average * source.total)
