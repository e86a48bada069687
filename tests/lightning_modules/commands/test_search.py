"""`explainer search` draws, trains, judges, resumes, and writes the configuration of the best trial."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.base import TrainingModule
from lightning_modules.cli import main
from lightning_modules.commands.search import Reported
from tests.lightning_modules.conftest import write

SPACE = {
    "model.init_args.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.init_args.explainer_settings.rank": {"low": 1, "high": 3, "step": 1},
    "model.init_args.mixing": ["mean", "alternate"],
}


def searched(configuration: dict[str, Any], folder: Path, *options: str, space: Any = SPACE) -> list[dict[str, Any]]:
    config = write(configuration, folder.parent / "config.yaml")
    space_option = [] if space is None else ["--space", json.dumps(space)]
    main(["search", "--config", config, "--output", str(folder), *space_option, *options])
    return json.loads((folder / "trials.json").read_text())


def test_a_search_that_goes_on_is_the_uninterrupted_one(configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["trainer"]["max_epochs"] = 1
    expected = searched(configuration, tmp_path / "whole", "--n_trials", "3")
    searched(configuration, tmp_path / "parts", "--n_trials", "1")
    assert searched(configuration, tmp_path / "parts", "--n_trials", "3") == expected
    assert [trial["state"] for trial in expected] == ["complete"] * 3
    assert len({trial["settings"]["model.init_args.learning_rate"] for trial in expected}) == 3

    best = max(expected, key=lambda trial: trial["value"])
    config = yaml.safe_load((tmp_path / "whole" / "best.yaml").read_text())
    settings = {**config["model"]["init_args"], "rank": config["model"]["init_args"]["explainer_settings"]["rank"]}
    assert {name.rpartition(".")[2]: value for name, value in best["settings"].items()}.items() <= settings.items()
    assert config["trainer"] == configuration["trainer"]
    for trial in expected:
        folder = tmp_path / "whole" / f"trial_{trial['trial']}"
        logged = EventAccumulator(str(folder)).Reload()
        assert logged.Scalars("search/value")[0].value == pytest.approx(trial["value"])
        assert logged.Scalars("validation/faithfulness")[0].value == pytest.approx(trial["value"])

    main(["fit", "--config", str(tmp_path / "whole" / "best.yaml")])
    again = EventAccumulator(str(tmp_path / "run")).Reload()
    assert again.Scalars("validation/faithfulness")[0].value == pytest.approx(best["value"], abs=1e-6)


def test_by_default_the_weights_of_aml_are_searched_for_a_metric(configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["trainer"]["max_epochs"] = 1
    configuration["model"]["init_args"] |= {"teachers": None, "matching": 0.0}
    trials = searched(configuration, tmp_path / "search", "--n_trials", "2", "--metric", "log_odds", space=None)
    for trial in trials:
        names = {name.rpartition(".")[2] for name in trial["settings"]}
        assert names == {"kept", "destroyed", "sparse"}
        assert all(0 <= value <= 1 for value in trial["settings"].values())
    config = yaml.safe_load((tmp_path / "search" / "best.yaml").read_text())["model"]["init_args"]
    best = min(trials, key=lambda trial: trial["value"])  # of log-odds the lowest is the best
    assert config["metric"] == "log_odds"
    assert config["kept"] == best["settings"]["model.init_args.kept"]


def test_a_trial_that_is_behind_is_ended() -> None:
    reports: list[tuple[float, int]] = []
    trial = SimpleNamespace(
        report=lambda value, step: reports.append((value, step)), should_prune=lambda: len(reports) == 2
    )
    callback = Reported(trial)
    module = TrainingModule(0.1, 0.0, 0.0)
    module.best_by = "validation/x"
    for epoch in range(2):
        trainer: Any = SimpleNamespace(
            sanity_checking=False, callback_metrics={"validation/x": epoch / 2}, current_epoch=epoch, should_stop=False
        )
        callback.on_validation_end(trainer, module)
        assert trainer.should_stop == callback.pruned == (epoch == 1)
    assert reports == [(0.0, 0), (0.5, 1)]
    assert callback.values == [0.0, 0.5]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rate": [1]}, "`space` names the options of `explainer fit`"),
        ({"model.init_args.kept": {"low": 1, "high": 0}}, "`space` of model.init_args.kept must be a range"),
        ({"model.init_args.kept": []}, "must be a range"),
        ({"model.init_args.kept": {"low": 0, "high": 1, "scale": "log"}}, "must be a range"),
    ],
)
def test_a_space_that_is_none_is_refused(
    space: Any, message: str, configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        searched(configuration, tmp_path / "search", space=space)
    assert message in capsys.readouterr().err


def test_another_search_is_not_continued(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration["trainer"]["max_epochs"] = 1
    searched(configuration, tmp_path / "search", "--n_trials", "1")
    configuration["trainer"]["max_epochs"] = 2
    with pytest.raises(SystemExit):
        searched(configuration, tmp_path / "search", "--n_trials", "1")
    assert "holds the search of another configuration" in capsys.readouterr().err
