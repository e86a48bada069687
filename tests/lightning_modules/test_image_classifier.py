"""The configurations of images, from a fresh classifier to an explainer that is exported and loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from explainer import ExplainedImageModel, ImageAttributor
from explainer.data.planted_images import LABELS, write_planted_images
from lightning_modules.cli import main
from lightning_modules.image_classifier import ImageClassifierTraining
from tests.lightning_modules.conftest import write

CONFIGS = Path(__file__).parents[2] / "configs"


def run(name: str, folder: Path, explained: Path | None = None) -> Path:
    """A shipped configuration for two steps, exported."""
    configuration = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    arguments = configuration["model"]["init_args"]
    if explained is not None:
        arguments["explained"] = str(explained)
    else:
        arguments["architecture"] |= {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 16}
    data: dict[str, Any] = configuration["data"]
    data["files"] = {split: str(folder / f"{split}.jsonl") for split in data["files"]}
    data |= {"batch_size": 4, "limit": {"train": 8, "validation": 2, "test": 2}}
    trainer = configuration["trainer"]
    trainer["logger"]["init_args"] |= {"save_dir": str(folder), "name": name, "version": ""}
    trainer |= {"max_epochs": 1, "check_val_every_n_epoch": 1, "log_every_n_steps": 1, "accelerator": "cpu"}
    trainer |= {"enable_progress_bar": False, "enable_model_summary": False}
    config = write(configuration, folder / f"{name}.yaml")
    main(["fit", "--config", config])
    main(["test", "--config", config])
    main(
        ["export", "--ckpt", str(folder / name / "checkpoints" / "last.ckpt"), "--output", str(folder / f"{name}-out")]
    )
    assert (folder / f"{name}-out" / "README.md").is_file()
    assert (CONFIGS / f"{name}.yaml").read_text().startswith(f"# explainer fit --config configs/{name}.yaml\n")
    return folder / f"{name}-out"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_planted_images(folder, {"train": 8, "validation": 2, "test": 2})
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Path:
    return run("image_classifier", folder)


def test_a_classifier_is_trained_and_exported(classifier: Path) -> None:
    explained = ExplainedImageModel.from_pretrained(classifier)
    assert explained.labels == list(LABELS)
    assert (explained.grid.rows, explained.grid.columns) == (6, 6)


@pytest.mark.parametrize("name", ["image_side", "image_aml"])
def test_an_explainer_is_trained_exported_and_loaded(name: str, folder: Path, classifier: Path) -> None:
    exported = run(name, folder, classifier)
    attributor = ImageAttributor.from_pretrained(str(exported))
    lines = (folder / "test.jsonl").read_text().splitlines()
    paths = [json.loads(line)["image"] for line in lines]
    both = attributor(paths, targets=["lying", "checkered"])
    assert len(both[0]["lying"].scores) == 36
    assert both[0]["lying"].scores != both[0]["checkered"].scores
    (alone,) = attributor(paths[1:], target="lying")
    assert alone.scores == pytest.approx(both[1]["lying"].scores, abs=1e-5)
    other = ExplainedImageModel.from_pretrained(classifier).model
    with torch.no_grad():
        other.classifier.bias += 1
    other.save_pretrained(folder / "other")
    attributor.explained.processor.save_pretrained(folder / "other")
    with pytest.raises(ValueError, match="does not predict what the model this explainer was trained for"):
        ImageAttributor.from_pretrained(str(exported), model=str(folder / "other"))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="`architecture` must name a `model_type`"):
        ImageClassifierTraining({"hidden_size": 8}, ["a", "b"])
    with pytest.raises(ValueError, match="`labels` must name at least two classes"):
        ImageClassifierTraining({"model_type": "vit"}, ["a", "a"])
