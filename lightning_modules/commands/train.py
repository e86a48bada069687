"""`explainer fit`, `validate` and `test`: LightningCLI, by the modules' constructors."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from lightning_modules.base import TrainingModule
from lightning_modules.callbacks.checkpoints import use_checkpoints
from lightning_modules.callbacks.progress_lines import use_lines
from lightning_modules.checkpoint_files import read_checkpoint
from lightning_modules.data.text import TextData


class Training(LightningCLI):
    """The constructors' signatures are the configuration."""

    further: Sequence[pl.Callback] = ()
    """Callbacks beside those of the configuration."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"seed_everything": 0})

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        vars(trainer)["callbacks"].extend(self.further)  # Lightning does not declare the list
        use_lines(trainer)
        use_checkpoints(trainer)
        return trainer

    def _parse_ckpt_path(self) -> None:
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and Path(path).is_file():
            read_checkpoint(path)  # refuses a broken file by name
        given = self._model_arguments()
        super()._parse_ckpt_path()
        used = self._model_arguments()
        changed = [name for name in given if name in used and given[name] != used[name]]
        if changed:
            changes = ", ".join(f"{name}: {used[name]!r} instead of {given[name]!r}" for name in changed)
            warnings.warn(f"The checkpoint's hyper-parameters replace those given: {changes}.", stacklevel=2)

    def _model_arguments(self) -> dict[str, Any]:
        return dict(self.config[self.config.subcommand].get("model", {}).get("init_args", {}))


def train(arguments: Sequence[str], callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Run a command of LightningCLI.

    Args:
        arguments: the command and its options.
        callbacks: further ones, beside those of the configuration.

    Returns:
        The trainer, after the run.
    """
    command = type("Training", (Training,), {"further": callbacks})
    # Lightning warns of arguments that its caller hands over: here they are the process's own. The program stays the
    # same, because Lightning runs it again for each further process of a run on several devices.
    with patch.object(sys, "argv", [sys.argv[0], *arguments]):
        run = command(
            TrainingModule,
            TextData,
            subclass_mode_model=True,
            trainer_class=pl.Trainer,
            save_config_kwargs={"overwrite": True},
        )
    return run.trainer
