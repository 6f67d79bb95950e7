"""Figures: one style for all methods, saved beside the log and in TensorBoard."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from datamodules.files import atomic_path

FIELD_COLOUR = "#b4b4b4"
# Okabe & Ito (2008): told apart by readers with any of the common colour-vision deficiencies.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def style() -> AbstractContextManager[None]:
    """Return a context in which figures are built and saved in the house style."""
    return mpl.rc_context(STYLE)


def new_figure(
    num_rows: int = 1,
    num_columns: int = 1,
    panel: tuple[float, float] = (4.2, 3.8),
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of the object API (no pyplot state) and its axes, row by row.

    Args:
        num_rows: Rows of panels.
        num_columns: Columns of panels.
        panel: Width and height of one panel in inches, on the average of the rows.
        heights: Of the rows, relative to each other; equal by default.
    """
    width, height = panel
    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="compressed")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, height_ratios=heights)
    return figure, list(axes.flat)


def class_colours(count: int) -> list[str]:
    """Return `count` colours; told apart by all readers up to seven, then from a wide map."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    turbo = mpl.colormaps["turbo"]
    return [mpl.colors.to_hex(turbo(i / (count - 1))) for i in range(count)]


def save_figures(
    trainer: Trainer, folder: Path, figures: Mapping[str, Figure], prefix: str = ""
) -> list[Path]:
    """Write figures to `figures/<name>.png` and to every TensorBoard logger (rank 0 only).

    Args:
        trainer: Its loggers are used.
        folder: The run's log folder.
        figures: Name to figure.
        prefix: Put before the name in TensorBoard, such as `test/`.

    Returns:
        The files written.
    """
    paths = []
    for name, figure in figures.items():
        path = folder / "figures" / f"{name}.png"
        pixels = render(figure)
        with atomic_path(path) as temporary:
            imsave(temporary, pixels, format="png")
        for writer in tensorboard_writers(trainer):
            writer.add_image(f"{prefix}{name}", pixels, trainer.global_step, dataformats="HWC")
        paths.append(path)
    return paths


def render(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure once, as RGB pixels of shape (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    with style():
        figure.set_dpi(STYLE["savefig.dpi"])
        canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def tensorboard_writers(trainer: Trainer) -> Sequence[Any]:
    """Return the `SummaryWriter` of every TensorBoard logger."""
    loggers = (log for log in trainer.loggers if isinstance(log, TensorBoardLogger))
    return [logger.experiment for logger in loggers]
