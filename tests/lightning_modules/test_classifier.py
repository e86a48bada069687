"""Fine-tuning a classifier: its export predicts what the training predicted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.explained import ExplainedModel
from lightning_modules.classifier import ClassifierTraining
from lightning_modules.cli import main
from lightning_modules.commands.export import load_training
from lightning_modules.data.text import TextExamples
from tests.families import explained
from tests.lightning_modules.conftest import write


def test_exported_adapter_predicts_what_the_checkpoint_predicts(
    configuration: dict[str, Any], classifier: str, tmp_path: Path
) -> None:
    configuration["model"] = {
        "class_path": "lightning_modules.classifier.ClassifierTraining",
        "init_args": {"base": classifier, "labels": ["bad", "fair", "good"], "rank": 2, "learning_rate": 0.01},
    }
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all("lora_" in name or "classifier" in name for name in saved)
    main(["export", "--ckpt", str(checkpoint), "--output", str(tmp_path / "out")])
    module, _ = load_training(checkpoint)
    assert isinstance(module, ClassifierTraining)
    texts = ["the film was great fun", "bad", "nothing really"]
    examples = TextExamples([0, 1, 2], texts, [None] * 3, [0, 0, 0])
    model = ExplainedModel.from_pretrained(tmp_path / "out")
    assert model.labels == ["bad", "fair", "good"]
    logits = model.predict([text.tokens for text in model.encode(texts)]).logits[:, 0]
    assert torch.allclose(logits, module(examples)[:, 0].detach(), atol=1e-5)
    assert "bad, fair, good" in (tmp_path / "out" / "README.md").read_text()


def test_a_head_of_several_layers_is_exported_whole(tmp_path: Path) -> None:
    """DistilBERT's head has a layer that PEFT does not know as one, and that the base lacks."""
    explained("distilbert").backbone.save_pretrained(tmp_path / "base")
    explained("distilbert").tokenizer.save_pretrained(tmp_path / "base")
    module = ClassifierTraining(str(tmp_path / "base"), labels=["bad", "good"], rank=2).eval()
    trained = {name.split(".")[3] for name in module.state_dict() if "modules_to_save" in name}
    assert trained == {"classifier", "pre_classifier"}
    module.export(tmp_path / "out")
    model = ExplainedModel.from_pretrained(tmp_path / "out")
    found = model.predict([text.tokens for text in model.encode(["great fun"])]).logits[:, 0]
    assert torch.allclose(found, module(TextExamples([0], ["great fun"], [None], [0]))[:, 0].detach(), atol=1e-5)


def test_an_exported_adapter_that_has_changed_is_refused(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "checkpoints" / "demo-classifier"
    shutil.copytree(shipped, tmp_path / "adapter")
    config = json.loads((shipped / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 64}))
    with pytest.raises(ValueError, match="its adapter is not the one that was exported"):
        ExplainedModel.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "b", "a"]])
def test_labels_are_of_two_classes_or_more(labels: list[str], classifier: str) -> None:
    with pytest.raises(ValueError, match="`labels` must name at least two classes, each once"):
        ClassifierTraining(classifier, labels)


def test_labels_may_be_numbers_or_names(classifier: str) -> None:
    module = ClassifierTraining(classifier, labels=["bad", "fair", "good"], rank=2)
    texts: list[str] = ["a"] * 3
    for labels, expected in (([2, 0, 1], [2, 0, 1]), (["good", "bad", "fair"], [2, 0, 1])):
        assert module._answers(TextExamples([0, 1, 2], texts, [None] * 3, labels))[1][:, 0].tolist() == expected
    for unknown in (3, -1, "great", None, [0, 1]):
        with pytest.raises(ValueError, match="`labels` must name every label of the data"):
            module._answers(TextExamples([0], ["a"], [None], [unknown]))


def test_the_shipped_classifier_is_the_published_one() -> None:
    """Its predictions on two plain reviews, so that a broken adapter or base is noticed."""
    model = ExplainedModel.from_pretrained(Path(__file__).parents[2] / "checkpoints" / "demo-classifier")
    texts = ["a gorgeous , witty , seductive movie .", "a tedious and witless mess ."]
    probabilities = model.predict([text.tokens for text in model.encode(texts)]).logits[:, 0].softmax(dim=-1)
    assert model.labels == ["negative", "positive"]
    assert probabilities[0, 1] > 0.9
    assert probabilities[1, 0] > 0.9
