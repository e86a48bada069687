"""Silenced messages: none of them reaches the reader of a run, in any of its processes; all others do."""

import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.quiet import SILENCED, silence
from tests.lightning_modules.conftest import write

ROOT = Path(__file__).parents[2]
LOGGER = logging.getLogger("pytorch_lightning.utilities.rank_zero")


def example(message: str) -> str:
    """A text that the entry's pattern matches."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"\((\w+)\|[^)]*\)", r"\1", message.replace(".*", "")))


def explainer(*arguments: str) -> str:
    """Everything that a command prints, in a process of its own, as a user has it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "lightning_modules", *arguments]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_each_entry_is_silenced_and_says_why_and_where(caplog: pytest.LogCaptureFixture) -> None:
    silence()
    with caplog.at_level(logging.INFO, LOGGER.name):
        LOGGER.propagate, before = True, LOGGER.propagate
        for entry in SILENCED:
            assert entry.reason
            assert entry.link.startswith("https://github.com/")
            if entry.category is None:
                LOGGER.info(example(entry.message))
            else:
                warnings.warn(example(entry.message), entry.category, stacklevel=1)  # an error, were it not silenced
        assert caplog.messages == []
        LOGGER.info("`Trainer.fit` stopped: `max_epochs=2` reached.")
        assert caplog.messages == ["`Trainer.fit` stopped: `max_epochs=2` reached."]
        LOGGER.propagate = before


@pytest.mark.parametrize(
    "message",
    [
        "The number of training batches (3) is smaller than the logging interval Trainer(log_every_n_steps=50).",
        "Checkpoint directory runs exists and is not empty.",
        "Text 3 has 600 tokens, the model takes 512",
    ],
)
def test_what_a_reader_can_act_on_is_shown(message: str) -> None:
    silence()
    with pytest.warns(UserWarning, match=re.escape(message)):
        warnings.warn(message, stacklevel=1)


def test_silencing_twice_adds_one_filter() -> None:
    silence()
    count = len(LOGGER.filters)
    silence()
    assert len(LOGGER.filters) == count


def test_a_run_and_its_test_print_none_of_them(
    configuration: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the demo: all callbacks, a checkpoint, and a test in a log folder of its own."""
    configuration["trainer"]["logger"]["init_args"]["version"] = None
    configuration["trainer"]["callbacks"] = [
        {"class_path": "lightning_modules.callbacks.Heatmaps"},
        {
            "class_path": "lightning_modules.callbacks.MethodComparison",
            "init_args": {"methods": {"random": {}}, "output": str(tmp_path / "comparison")},
        },
        {"class_path": "pytorch_lightning.callbacks.LearningRateMonitor"},
    ]
    for switch in ("enable_progress_bar", "enable_model_summary"):
        configuration["trainer"][switch] = True
    config = write(configuration, tmp_path / "config.yaml")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))  # as on a fresh machine
    printed = explainer("fit", "--config", config)
    checkpoint = next(tmp_path.glob("run/version_0/checkpoints/best.ckpt"))
    printed += explainer("test", "--config", config, "--ckpt_path", str(checkpoint))
    assert "`Trainer.fit` stopped" in printed
    assert "Faithfulness on 8 texts" in printed
    assert "Warning" not in printed
    for bar in ("Generating", "Map", "Filter"):
        assert bar not in printed
    for entry in SILENCED:
        assert not re.search(entry.message, printed), entry.message


def test_spawned_processes_print_none_of_them(classifier: str, files: dict[str, str], tmp_path: Path) -> None:
    data = ["--method", "random", "--model", classifier, "--data", files["test"], "--output", str(tmp_path / "out")]
    devices = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_spawn", "--rows-per-shard", "2"]
    printed = explainer("predict", *data, *devices)
    assert "8 rows in 4 shards" in printed
    for entry in SILENCED:
        assert not re.search(entry.message, printed), entry.message
