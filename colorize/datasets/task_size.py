"""Chooses the number of images per task.

Ray needs about 20 ms of CPU per task, 9 of them on the driver, and each image passes three tasks: with 16 images per
task, a cluster cannot exceed 600 images per second. But a lost task starts over, so it should take less than a minute
with the default network, and there should be enough tasks to keep all CPUs busy until the end.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

LEAST, MOST = 16, 512
TASK_SECONDS = 30.0
IMAGE_SECONDS = 0.03  # of a CPU, for any image: mostly the default network's
BYTE_SECONDS = 3e-7  # decoding, composing and encoding: about 1.2 s for a JPEG of 12 megapixels and 4 MB
UNKNOWN_BYTES = 1 << 20


def rows_per_task(units: pa.Table, least_tasks: int) -> int:
    """For a table of `UNIT_SCHEMA`, files before archives: `LEAST` to `MOST`, by number and size of the images."""
    images = pc.sum(units["count"]).as_py() or 0
    seconds = IMAGE_SECONDS + BYTE_SECONDS * _bytes_each(units, images)
    return max(LEAST, min(MOST, int(TASK_SECONDS / seconds), images // least_tasks))


def _bytes_each(units: pa.Table, images: int) -> float:
    """Mean size of an image, from the listing."""
    total = files = unknown = 0
    for batch in units.select(["size", "row_group"]).to_batches():  # millions of rows: one batch at a time
        sizes = batch["size"].filter(pc.less(batch["row_group"], 0)).to_numpy()
        known = sizes[sizes >= 0]
        total, files, unknown = total + int(known.sum()), files + len(sizes), unknown + len(sizes) - len(known)
    if unknown:
        total += int(unknown * (total / (files - unknown) if total else UNKNOWN_BYTES))
    archives = units.slice(files).select(["name", "size"]).group_by("name").aggregate([("size", "max")])
    return (total + (pc.sum(archives["size_max"]).as_py() or 0)) / max(images, 1)
