"""Heatmaps of fixed texts in TensorBoard, one a validation."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.cli import main
from tests.lightning_modules.conftest import write


def test_one_figure_a_validation(configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["trainer"]["callbacks"] = [
        {"class_path": "lightning_modules.callbacks.Heatmaps", "init_args": {"n_texts": 3}}
    ]
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    images = EventAccumulator(str(tmp_path / "run")).Reload().Images("validation/heatmaps")
    assert [image.step for image in images] == [3, 6]
    assert images[0].width > 500
