"""`colorize bulk --limit N`: a random sample of the remaining inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from colorize.bulk.resume import Work


def limited(work: Work, count: int) -> Work:
    """The work with at most `count` random inputs, the same every time.

    Rows of an archive are chosen in runs, because a single row costs as much to read. The archive is assembled by the
    run that does its last rows.
    """
    total, units = work.remaining.total, work.remaining.units
    if total <= count:
        return work
    chosen = np.random.default_rng(0).choice(units.num_rows, min(count, units.num_rows), replace=False)
    counts = units["count"].to_numpy()[chosen]
    taken = np.clip(count - (np.cumsum(counts) - counts), 0, counts)
    order = np.argsort(chosen)  # files first, then archives, with all units of an archive next to each other
    selected = order[taken[order] > 0]
    some = units.take(pa.array(chosen[selected]))
    index, field = units.schema.get_field_index("count"), units.schema.field("count")
    some = some.set_column(index, field, pa.array(taken[selected], field.type))
    return replace(work, remaining=work.remaining.only(some, work.remaining.parts), deferred=total - count)
