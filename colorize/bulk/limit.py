"""`colorize bulk --limit N`: a part of what is left, chosen so that it shows what the whole is like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from colorize.bulk.resume import Work


def limited(work: Work, count: int) -> Work:
    """The same work with `count` inputs at most, by chance, the same ones every time; the others are for a later run.

    Of an archive they are runs of rows: single ones would cost as much to read. It is put together by the run that
    does the last of them.
    """
    total, units = work.left.total, work.left.units
    if total <= count:
        return work
    chosen = np.random.default_rng(0).choice(units.num_rows, min(count, units.num_rows), replace=False)
    counts = units["count"].to_numpy()[chosen]
    taken = np.clip(count - (np.cumsum(counts) - counts), 0, counts)
    order = np.argsort(chosen)  # units of files come before those of archives, and an archive's stand side by side
    kept = order[taken[order] > 0]
    some = units.take(pa.array(chosen[kept]))
    index, field = units.schema.get_field_index("count"), units.schema.field("count")
    some = some.set_column(index, field, pa.array(taken[kept], field.type))
    return replace(work, left=work.left.only(some, work.left.parts), later=total - count)
