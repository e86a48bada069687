"""`explainer search`: many short trainings, to find the loss weights or other settings of a configuration."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from torch.utils.tensorboard import SummaryWriter

from explainer.extras import OptionalModule
from explainer.faithfulness.measures import HIGHER_IS_BETTER
from explainer.storage.atomic import write_text
from lightning_modules.base import NotFinite, TrainingModule
from lightning_modules.commands.train import train

optuna = OptionalModule("optuna")

Values = Mapping[str, Any] | list[Any]
"""The range of a setting, or its choices."""

WEIGHTS: dict[str, Values] = {
    f"model.init_args.{name}": {"low": 0.0, "high": 1.0} for name in ("kept", "destroyed", "sparse")
}
"""The weights of AML's three losses, searched from 0 to 1 as in the paper (EMNLP Findings 2024)."""


class Reported(pl.Callback):
    """Reports what `best.ckpt` is chosen by after every epoch, and ends a trial that is behind the others.

    Args:
        trial: of optuna.
    """

    def __init__(self, trial: Any) -> None:
        self.trial = trial
        self.values: list[float] = []
        self.pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, TrainingModule)
        self.values.append(float(trainer.callback_metrics[str(pl_module.best_by)]))
        self.trial.report(self.values[-1], trainer.current_epoch)
        self.pruned = self.trial.should_prune()
        trainer.should_stop = trainer.should_stop or self.pruned


def search(
    output: Path,
    config: str | None = None,
    n_trials: int = 30,
    space: dict | None = None,  # type: ignore[type-arg] # jsonargparse would read strings of `Any` as YAML
    metric: str | None = None,
    seed: int = 0,
) -> None:
    """Train with many settings, and keep those of the best trial.

    Settings are drawn by TPE (Bergstra et al., NeurIPS 2011), at random in the first ten trials. A trial that is behind
    the median of the others at the same epoch is ended there. What a trial is worth is the value by which its
    `best.ckpt` is chosen. The same command goes on where it was interrupted.

    Args:
        config: a configuration of `explainer fit`: what a trial trains. Its `trainer.max_epochs` and `data.limit` make
            trials short.
        output: the folder to write: trials.json, best.yaml (the configuration of the best trial), study.log, and the
            run of each trial; `tensorboard --logdir` on it shows settings and values under HPARAMS.
        n_trials: in all, those of an earlier call included.
        space: what is searched, {option: values}. An option is named as on the command line of `fit`, such as
            model.init_args.learning_rate; its values are a range {low: 0, high: 1}, also with `log: true` or `step: 1`,
            or a list of choices. By default the weights of AML's three losses, from 0 to 1.
        metric: what trials are judged by, in place of the configuration's own `metric`.
        seed: of the draws.

    Raises:
        ValueError: when `config` or `space` cannot be read, or `output` holds another search.
    """
    if config is None:
        raise ValueError("`--config` is missing: name a configuration of `explainer fit`, such as configs/aml.yaml.")
    wanted: dict[str, Values] = dict(WEIGHTS if space is None else space)
    for option, values in wanted.items():
        _check(option, values)
    trained = _read(Path(config))
    fixed: dict[str, Any] = {} if metric is None else {"model.init_args.metric": metric}
    judged_by = metric or trained.get("model", {}).get("init_args", {}).get("metric", "")
    study = _study(output, HIGHER_IS_BETTER.get(judged_by, True), {"space": wanted, "config": trained, **fixed})
    while (n_done := sum(trial.state.is_finished() for trial in study.trials)) < n_trials:
        # A seed for each trial, so that a search that goes on draws what an uninterrupted one would have drawn.
        study.sampler = optuna.samplers.TPESampler(seed=seed + n_done)
        trial = study.ask()
        given = {option: _drawn(trial, option, values) for option, values in wanted.items()}
        print(f"trial {n_done + 1} of {n_trials}: {', '.join(f'{option} {value}' for option, value in given.items())}")
        _run(study, trial, config, output / f"trial_{trial.number}", given, fixed)
        _write(study, output, trained, fixed)
    print(f"The best is trial {study.best_trial.number} with {study.best_value:.4f}: {output / 'best.yaml'}")


def _read(config: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"`config` {config} is no YAML file: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"`config` {config} must hold the options of `explainer fit`, got {found!r:.60}.")
    return found


def _check(option: str, values: Any) -> None:
    """Refuse an option that `fit` does not have, and values that are none.

    Raises:
        ValueError: with what was expected.
    """
    if option.split(".")[0] not in ("model", "data", "trainer"):
        raise ValueError(
            f"`space` names the options of `explainer fit`, such as model.init_args.learning_rate, got {option!r}."
        )
    if isinstance(values, list) and values:
        return
    numbers = isinstance(values, Mapping) and all(isinstance(values.get(end), int | float) for end in ("low", "high"))
    if not numbers or not values["low"] < values["high"] or set(values) - {"low", "high", "log", "step"}:
        raise ValueError(
            f"`space` of {option} must be a range {{low: 0, high: 1}}, also with log or step, or a list of choices; "
            f"got {values!r}."
        )


def _study(output: Path, higher_is_better: bool, what: Mapping[str, Any]) -> Any:
    """The trials so far.

    Raises:
        ValueError: when they are of another search.
    """
    output.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="search",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(output / "study.log")),
        ),
        pruner=optuna.pruners.MedianPruner(),
        direction="maximize" if higher_is_better else "minimize",
        load_if_exists=True,
    )
    if study.user_attrs.get("what", what) != what:
        raise ValueError(
            f"`output` {output} holds the search of another configuration, space or metric: name a new one."
        )
    study.set_user_attr("what", what)
    return study


def _drawn(trial: Any, option: str, values: Values) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(option, values)
    kind = "int" if isinstance(values.get("step", 1.0), int) else "float"
    return getattr(trial, f"suggest_{kind}")(option, **values)


def _run(study: Any, trial: Any, config: str, folder: Path, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Train one trial; one whose loss is no number has failed, and the search goes on."""
    logger = {
        "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
        "init_args": {"save_dir": str(folder.parent), "name": "", "version": folder.name},
    }
    options = {"trainer.logger": logger, **given, **fixed}
    reported = Reported(trial)
    try:
        train(
            ["fit", "--config", config, *(f"--{name}={_text(value)}" for name, value in options.items())],
            [reported],
        )
    except NotFinite as error:
        print(f"failed: {error}")
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    best = max(reported.values) if study.direction.name == "MAXIMIZE" else min(reported.values)
    if reported.pruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, best)
    with SummaryWriter(str(folder)) as writer:
        numbers = {
            name: value if isinstance(value, int | float | str) else _text(value) for name, value in given.items()
        }
        writer.add_hparams(numbers, {"search/value": best}, run_name=".")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write(study: Any, output: Path, trained: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """trials.json and, once a trial is complete, best.yaml."""
    trials = [
        {"trial": one.number, "state": one.state.name.lower(), "value": one.value, "settings": one.params}
        for one in study.trials
        if one.state.is_finished()
    ]
    write_text(output / "trials.json", json.dumps(trials, indent=1) + "\n")
    if any(one["state"] == "complete" for one in trials):
        best: dict[str, Any] = copy.deepcopy(dict(trained))
        for option, value in {**study.best_params, **fixed}.items():
            *path, last = option.split(".")
            place = best
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value
        write_text(output / "best.yaml", yaml.safe_dump(best, sort_keys=False))
