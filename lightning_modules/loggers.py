"""Figures and tables to whatever logger is configured: TensorBoard, W&B, MLflow, or files in the log folder.

Lightning gives every logger numbers; each has a way of its own for the rest. TensorBoard strips HTML, so a picture is a
figure everywhere. A logger with neither a way nor a folder gets none, and one warning.
"""

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from explainer.evaluation.table import markdown_table
from explainer.storage.atomic import replacing


@rank_zero_only
def log_figure(loggers: Iterable[Logger], name: str, figure: Figure, step: int) -> None:
    """Log a figure, in the first process.

    Args:
        loggers: of a trainer.
        name: of the figure, such as `validation/heatmaps`; the same at every step.
        step: of the optimizer.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, global_step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_figure(logger.run_id, figure, f"{name}/{step:08d}.png")
        elif hasattr(logger, "log_image"):  # W&B, and loggers with the same methods
            logger.log_image(key=name, images=[_picture(figure)], step=step)
        elif (folder := _folder(logger)) is not None:
            with replacing(folder / f"{name}-{step:08d}.png") as file:
                figure.savefig(file, format="png")


@rank_zero_only
def log_table(
    loggers: Iterable[Logger], name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], step: int
) -> None:
    """Log a table, in the first process; other arguments as of `log_figure`.

    Args:
        columns: their names.
        rows: one cell per column.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, markdown_table(columns, rows), global_step=step)
        elif isinstance(logger, MLFlowLogger):
            data = {column: [row[i] for row in rows] for i, column in enumerate(columns)}
            logger.experiment.log_table(logger.run_id, data, f"{name}/{step:08d}.json")
        elif hasattr(logger, "log_table"):
            logger.log_table(key=name, columns=list(columns), data=[list(row) for row in rows], step=step)
        elif (folder := _folder(logger)) is not None:
            with (
                replacing(folder / f"{name}-{step:08d}.csv") as file,
                open(file, "w", newline="", encoding="utf-8") as text,
            ):
                csv.writer(text).writerows([columns, *rows])


def _picture(figure: Figure) -> NDArray[np.uint8]:
    """The figure's pixels (height, width, RGBA): every such logger knows arrays, and not every one knows figures."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _folder(logger: Logger) -> Path | None:
    if logger.log_dir is not None:
        return Path(logger.log_dir)
    warnings.warn(f"{type(logger).__name__} takes no figures or tables, and has no folder for them.", stacklevel=3)
    return None
