"""`explainer search`: many short trainings, to find the loss weights or other settings of a configuration."""

import json
import math
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.tensorboard import SummaryWriter

from explainer.storage.atomic import write_text
from lightning_modules.base import TrainingModule
from lightning_modules.training import train

WEIGHTS: dict[str, Any] = {f"model.init_args.{name}": {"low": 0.0, "high": 1.0} for name in ("kept", "destroyed", "sparse")}
"""The weights of AML's three losses, from 0 to 1, as in the paper (EMNLP Findings 2024, section 4)."""


class Pruned(pl.Callback):
    """Reports the validation metric after every epoch, and ends a trial that falls behind the others."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, TrainingModule)
        assert pl_module.best_by is not None
        self.trial.report(float(trainer.callback_metrics[pl_module.best_by]), trainer.current_epoch)
        trainer.should_stop = trainer.should_stop or self.trial.should_prune()


def search(
    config: Path,
    output: Path,
    n_trials: int = 30,
    space: dict | None = None,  # type: ignore[type-arg] # jsonargparse would read strings of `Any` as YAML
    seed: int = 0,
) -> None:
    """Train with many settings, and keep those of the best run.

    Settings are drawn by TPE (Bergstra et al., NeurIPS 2011); a trial below the median of the others' at the same epoch
    is ended. A trial is worth the best value of what the module's `best.ckpt` is chosen by: `validation/faithfulness`,
    or its `metric`. The folder gets `study.log` (the trials; the same command goes on where it was interrupted),
    `trials.json`, `best.yaml` (the configuration of the best trial), and a folder for each trial; `tensorboard --logdir`
    on it shows all settings and values under HPARAMS.

    Args:
        config: of `explainer fit`: what a trial trains. Its `trainer.max_epochs` and `data.limit` make trials short.
        output: the folder to write.
        n_trials: in all, those of an earlier call included.
        space: what is searched: the name of an option, as on the command line, and its range
            `{low: 0, high: 1}`, also with `log: true` or `step: 1`, or its choices, a list. By default the three weights
            of AML's losses, `kept`, `destroyed` and `sparse`, from 0 to 1.
        seed: of the draws.

    Raises:
        ValueError: when the package optuna is missing, `space` cannot be read, or an earlier search in `output` had
            another one.
    """
    if find_spec("optuna") is None:
        raise ValueError("`explainer search` needs the package `optuna`: install Amortex with the extra `train`.")
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    wanted = WEIGHTS if space is None else space
    for name, values in wanted.items():
        _check(name, values)
    output.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(output / "study.log"))),
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        direction="maximize",
        load_if_exists=True,
    )
    if (before := study.user_attrs.get("space", wanted)) != wanted:
        raise ValueError(f"`output` {output} holds a search of another `space`: {json.dumps(before)}. Name another one.")
    study.set_user_attr("space", wanted)
    while len(done := [trial for trial in study.trials if trial.state.is_finished()]) < n_trials:
        trial = study.ask()
        given = {name: _drawn(trial, name, values) for name, values in wanted.items()}
        print(f"trial {len(done) + 1} of {n_trials}: " + ", ".join(f"{name.split('.')[-1]} {value}" for name, value in given.items()))
        study.tell(trial, **_outcome(trial, config, output / f"trial_{trial.number}", given))
        _write(study, output)
