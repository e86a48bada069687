"""Lines instead of bars where a run's output is a file."""

from typing import Any

import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar

from explainer.rendering import progress
from lightning_modules.callbacks import ProgressLines
from lightning_modules.callbacks.progress_lines import use_lines
from lightning_modules.cli import main
from tests.lightning_modules.conftest import write


def trainer(**arguments: Any) -> Trainer:
    return Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu", **arguments)


def test_lines_take_the_place_of_lightning_s_own_bar_alone() -> None:
    class Own(RichProgressBar):
        pass

    for arguments, expected in (
        ({}, ProgressLines),
        ({"callbacks": [Own()]}, Own),
        ({"enable_progress_bar": False}, type(None)),
    ):
        run = trainer(**arguments)
        use_lines(run)
        assert type(run.progress_bar_callback) is expected
        assert sum(isinstance(callback, ProgressBar) for callback in vars(run)["callbacks"]) == (
            expected is not type(None)
        )


def test_a_terminal_keeps_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_modules.callbacks.progress_lines.can_redraw", lambda console: True)
    run = trainer()
    use_lines(run)
    assert type(run.progress_bar_callback) is RichProgressBar


def test_a_run_says_how_far_it_is(
    configuration: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    configuration["trainer"]["enable_progress_bar"] = True
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    lines = capsys.readouterr().err.splitlines()
    for work in ("predictions", "teacher sig", "validation", "training"):
        assert any(line.startswith(f"{work}: done in ") for line in lines), work
    training = [line for line in lines if line.startswith("training: ")]
    assert len(training) == 2 * 3  # the sixth step is the last line
    assert training[0].startswith("training: 17 %, about ")
    assert "epoch 1, train/loss" in training[0]
    assert "epoch 2" in training[-2]
    assert "validation/faithfulness" in training[-2]


def test_a_test_says_how_far_it_is(
    configuration: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    options = ["--trainer.enable_progress_bar", "true", "--data.batch_size", "4"]
    main(["test", "--config", config, "--ckpt_path", str(checkpoint), *options])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("test: 5")] == ["test: 50 %"]
    assert any(line.startswith("test: done in ") for line in lines)
