"""Progress of a run as lines of text, for files and CI logs, where a bar cannot be redrawn."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from rich.console import Console

from explainer.rendering.progress import Lines, can_redraw


class ProgressLines(ProgressBar):
    """A line every half minute: how far the run is, how long it has to go, and its latest losses and metrics.

    It takes the place of Lightning's own bar, which shows nothing in a file until the end of an epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._training = self._evaluation = Lines("training")

    def enable(self) -> None:
        self._is_enabled = True

    def disable(self) -> None:
        """Called by Lightning in all processes but the first."""
        self._is_enabled = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        self._training = Lines("training", steps if math.isfinite(steps) else None, trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._is_enabled:
            self._training.update(trainer.global_step, self._note(trainer, pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_enabled:
            self._training.close()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._evaluation = Lines("validation", _total(batches))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._evaluation = Lines("test", _total(trainer.num_test_batches))

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._evaluation = Lines("predict", _total(trainer.num_predict_batches))

    def on_validation_batch_end(self, *arguments: Any) -> None:
        self._advance(*arguments)

    def on_test_batch_end(self, *arguments: Any) -> None:
        self._advance(*arguments)

    def on_predict_batch_end(self, *arguments: Any) -> None:
        self._advance(*arguments)

    def on_validation_end(self, *_: Any) -> None:
        self._finish()

    def on_test_end(self, *_: Any) -> None:
        self._finish()

    def on_predict_end(self, *_: Any) -> None:
        self._finish()

    def _advance(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        if self._is_enabled:
            self._evaluation.update(batch_idx + 1)

    def _finish(self) -> None:
        if self._is_enabled:
            self._evaluation.close()

    def _note(self, trainer: pl.Trainer, module: pl.LightningModule) -> str:
        """The epoch and the metrics that Lightning's bar would show."""
        epoch = f"epoch {trainer.current_epoch + 1}"
        values = {name: value for name, value in self.get_metrics(trainer, module).items() if name != "v_num"}
        return ", ".join([epoch, *(f"{name} {float(value):.3f}" for name, value in values.items())])  # type: ignore[arg-type]


def use_lines(trainer: pl.Trainer) -> None:
    """Put lines in the place of Lightning's own bar where the run's output is no terminal."""
    bar = trainer.progress_bar_callback
    if bar is not None and type(bar) in (RichProgressBar, TQDMProgressBar) and not can_redraw(Console()):
        callbacks = vars(trainer)["callbacks"]  # Lightning does not declare the list
        callbacks[callbacks.index(bar)] = ProgressLines()


def _total(batches: int | float | list[int | float]) -> float | None:
    """The number of batches, over all loaders; None where it is not known."""
    total = sum(batches) if isinstance(batches, list) else batches
    return total if math.isfinite(total) else None
