"""Generated data, tiny models on disk, and a configuration that trains on them in a second."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.explainer.explained.test_responses import model as tiny
from tests.explainer.tools import saved
from tests.families import TASKS, WORDS, explained


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of a tiny random BERT of each task."""
    return {task: saved(explained("bert", **options), tmp_path_factory.mktemp(task)) for task, options in TASKS.items()}


@pytest.fixture(scope="session")
def classifier(models: dict[str, str]) -> str:
    """The folder of a tiny random BERT classifier of three classes."""
    return models["classification"]


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny random Llama with a language model head, and a tokenizer with a chat template."""
    return saved(tiny("llama"), tmp_path_factory.mktemp("language_model"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Train, validation and test texts of random words with random labels."""
    folder = tmp_path_factory.mktemp("data")
    generator = random.Random(0)
    paths = {}
    for split, count in (("train", 24), ("validation", 8), ("test", 8)):
        rows = [
            {"text": " ".join(generator.choices(WORDS.split(), k=generator.randint(2, 12))), "label": i % 3}
            for i in range(count)
        ]
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths[split] = str(path)
    return paths


@pytest.fixture
def configuration(classifier: str, files: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """A mask training of two epochs; a test changes what it is about and writes it by `write`."""
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "lightning_modules.mask.MaskTraining",
            "init_args": {"explained": classifier, "explainer_settings": {"rank": 2}, "teachers": {"sig": {}}},
        },
        "data": {"files": files, "batch_size": 8},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "logger": {
                "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
                "init_args": {"save_dir": str(tmp_path), "name": "run", "version": ""},
            },
        },
    }


def write(configuration: dict[str, Any], path: Path) -> str:
    """The path of the configuration, as a file."""
    path.write_text(yaml.safe_dump(configuration))
    return str(path)
