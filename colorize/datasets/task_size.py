"""How many images a task handles: few enough that a lost one costs a minute, many enough that tasks cost nothing.

Ray's driver needs about 9 ms of CPU for a task, and three tasks handle each image: by 16 at once a cluster cannot do
more than 600 images per second. A task of much more than a minute would be repeated from its start when a node is lost.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

LEAST, MOST = 16, 512
TASK_SECONDS = 60.0
PICTURE_SECONDS = 0.1  # of a CPU, for any image: mostly the network's
BYTE_SECONDS = 3e-7  # decoding, composing and encoding: about 1.2 s for a JPEG of 12 megapixels and 4 MB
TASKS = 256  # that there should be at least, for all nodes to have some to the end
UNKNOWN_BYTES = 1 << 20


def rows_per_task(units: pa.Table) -> int:
    """For the units (UNIT_SCHEMA) of a source, files before archives: from how many images they hold, and how large.

    Between `LEAST` and `MOST`; of tiny images most, if there are enough of them.
    """
    images = pc.sum(units["count"]).as_py() or 0
    seconds = PICTURE_SECONDS + BYTE_SECONDS * _bytes_each(units, images)
    return max(LEAST, min(MOST, int(TASK_SECONDS / seconds), images // TASKS))


def _bytes_each(units: pa.Table, images: int) -> float:
    """Mean size of an image, as far as the listing tells it."""
    total = files = unknown = 0
    for batch in units.select(["size", "row_group"]).to_batches():  # a column of millions of sizes is no small thing
        sizes = batch["size"].filter(pc.less(batch["row_group"], 0)).to_numpy()
        known = sizes[sizes >= 0]
        total, files, unknown = total + int(known.sum()), files + len(sizes), unknown + len(sizes) - len(known)
    if unknown:
        total += int(unknown * (total / (files - unknown) if total else UNKNOWN_BYTES))
    archives = units.slice(files).select(["name", "size"]).group_by("name").aggregate([("size", "max")])
    return (total + (pc.sum(archives["size_max"]).as_py() or 0)) / max(images, 1)
