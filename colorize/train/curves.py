"""`curves.png`: loss and validation metrics by epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

SIZE = (8.4, 5.2)  # inches, at 100 dots each


def draw_curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """A PNG with charts of the loss and of each validation metric that all epochs have."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not at the top: only the first worker draws
    from matplotlib.figure import Figure

    names = ["loss", *(name for name in history[-1] if name.startswith("val_"))]
    names = [name for name in names if all(name in row for row in history)]
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots(-(-len(names) // 2), 2, squeeze=False)
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(epochs, [row[name] for row in history], marker="o", markersize=3)
        axis.set(title=name, xlabel="epoch")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    encoded = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(encoded, format="png")
    return encoded.getvalue()
