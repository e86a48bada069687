"""`best.ckpt` and `last.ckpt` of every training."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from explainer.storage.atomic import replacing
from lightning_modules.base import TrainingModule
from lightning_modules.checkpoint_files import CheckpointFiles, read_checkpoint
from lightning_modules.processes import gathered


class Best(ModelCheckpoint):
    """`best.ckpt`: the state with the best value of the module's own validation metric, also over resumed runs.

    A resumed run logs to a folder of its own. It takes the best checkpoint so far along, with its value; Lightning's
    callback would begin without, and `best.ckpt` would be the best of the remaining epochs.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", mode="max")
        self._resumed_from: Path | None = None
        self._stage, self._writes = "", False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if isinstance(pl_module, TrainingModule):
            self.monitor = pl_module.best_by
            if not pl_module.higher_is_better:
                self.mode, self.kth_value = "min", torch.tensor(torch.inf)
        self._stage, self._writes = stage, trainer.is_global_zero
        super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Called before `load_state_dict`."""
        self._resumed_from = None if trainer.ckpt_path is None else Path(trainer.ckpt_path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best checkpoint along. The value is the file's own, whichever checkpoint is resumed."""
        if self._stage != "fit" or not state_dict["best_model_path"]:
            return
        best, folder = Path(state_dict["best_model_path"]), Path(str(self.dirpath))
        moved = [] if self._resumed_from is None else [self._resumed_from.with_name(best.name)]
        found = next((path for path in [*moved, best] if path.is_file()), None)
        if found is None:
            warnings.warn(
                f"The best checkpoint so far, {str(best)!r}, is gone: this run's best.ckpt will be the best of the "
                "epochs from here on.",
                stacklevel=2,
            )
            return
        value = read_checkpoint(found)["callbacks"][self.state_key]["best_model_score"]
        # All processes choose the name before the first one writes the file.
        taken = gathered(found if found.resolve().parent == folder.resolve() else _free(folder / "best.ckpt"))[0]
        if self._writes and taken != found:
            with replacing(taken) as name:
                Path(name).write_bytes(found.read_bytes())
        self.best_model_path = self.kth_best_model_path = str(taken)
        self.best_model_score = self.kth_value = value
        self.best_k_models = {str(taken): value}


def _free(path: Path) -> Path:
    """`path`, or with a number where another run has left its file."""
    names = (path if number == 0 else path.with_stem(f"{path.stem}-v{number}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def last() -> ModelCheckpoint:
    """`last.ckpt`: the state after the last finished epoch.

    `save_last: true` of a callback that monitors a metric writes its file only when the metric improves.
    """
    return ModelCheckpoint(filename="last", save_on_train_epoch_end=True)


def use_checkpoints(trainer: pl.Trainer) -> None:
    """Write checkpoints whole; and put `best.ckpt` and `last.ckpt` in the place of Lightning's own choice.

    Where a configuration has checkpoint callbacks, these alone decide what is kept.
    """
    trainer.strategy.checkpoint_io = CheckpointFiles()
    callbacks = vars(trainer)["callbacks"]  # Lightning does not declare the list
    for callback in trainer.checkpoint_callbacks:
        if type(callback) is ModelCheckpoint and _settings(callback) == _settings(ModelCheckpoint()):
            place = callbacks.index(callback)
            callbacks[place : place + 1] = [Best(), last()]


def _settings(callback: ModelCheckpoint) -> dict[str, Any]:
    return {name: value for name, value in vars(callback).items() if isinstance(value, str | int | float | None)}
