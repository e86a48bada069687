"""Fine-tuning a classifier: its export predicts what the training predicted."""

from pathlib import Path
from typing import Any

import torch

from explainer import ExplainedModel
from lightning_modules.classifier import ClassifierTraining
from lightning_modules.cli import main
from lightning_modules.commands.export import load_training
from lightning_modules.data.text import TextExamples
from tests.lightning_modules.conftest import write


def test_exported_adapter_predicts_what_the_checkpoint_predicts(
    configuration: dict[str, Any], classifier: str, tmp_path: Path
) -> None:
    configuration["model"] = {
        "class_path": "lightning_modules.classifier.ClassifierTraining",
        "init_args": {"base": classifier, "labels": ["bad", "fair", "good"], "rank": 2, "learning_rate": 0.01},
    }
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    checkpoint = next((tmp_path / "run" / "checkpoints").glob("*.ckpt"))
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all("lora_" in name or "classifier" in name for name in saved)
    main(["export", "--ckpt", str(checkpoint), "--output", str(tmp_path / "out")])
    module, _ = load_training(checkpoint)
    assert isinstance(module, ClassifierTraining)
    texts = ["the film was great fun", "bad", "nothing really"]
    examples = TextExamples([0, 1, 2], texts, [None] * 3, torch.zeros(3, dtype=torch.long))
    model = ExplainedModel.from_pretrained(tmp_path / "out")
    assert model.labels == ["bad", "fair", "good"]
    found = model.predict([text.tokens for text in model.encode(texts)])
    assert torch.allclose(found, module(examples).detach(), atol=1e-5)
    assert "bad, fair, good" in (tmp_path / "out" / "README.md").read_text()


def test_the_shipped_classifier_is_the_published_one() -> None:
    """Its predictions on two plain reviews, so that a broken adapter or base is noticed."""
    model = ExplainedModel.from_pretrained(Path(__file__).parents[2] / "checkpoints" / "demo-classifier")
    texts = ["a gorgeous , witty , seductive movie .", "a tedious and witless mess ."]
    probabilities = model.predict([text.tokens for text in model.encode(texts)]).softmax(dim=-1)
    assert model.labels == ["negative", "positive"]
    assert probabilities[0, 1] > 0.9
    assert probabilities[1, 0] > 0.9
