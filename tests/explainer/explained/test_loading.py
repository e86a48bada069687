"""Loading classifiers and reading off their conventions: folders, adapters, padding, limits, baseline tokens."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from explainer.explained import ExplainedModel, loading
from tests.explainer.tools import predictions
from tests.families import FAMILIES, TEXTS, explained, tokenizer

# peft 0.21 asks transformers 5.23 by its old name: https://github.com/huggingface/peft
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def save(model: ExplainedModel, folder: Path) -> Path:
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a tiny BERT without a classification head."""
    explained("bert").backbone.save_pretrained(tmp_path / "base")
    explained("bert").tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapted(base: Path, task: TaskType | None = TaskType.SEQ_CLS) -> PeftModel:
    """The base with a fresh head of four classes and a LoRA adapter that does something."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=4)
    config = LoraConfig(task_type=task, r=2, target_modules=["query", "value"])
    adapter = get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_B" in name or "classifier" in name:
                parameter.normal_()
    return adapter


def logits_of(model: PreTrainedModel | PeftModel, reader: ExplainedModel) -> torch.Tensor:
    inputs = reader.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_loads_with_equal_logits(family: str, tmp_path: Path) -> None:
    model = explained(family)
    loaded = ExplainedModel.from_pretrained(save(model, tmp_path))
    rows = [text.tokens for text in model.encode(TEXTS)]
    assert torch.equal(predictions(loaded, rows), predictions(model, rows))
    assert loaded.name == str(tmp_path)
    if family != "qwen2":  # transformers loads every Qwen2 model with Qwen2's own pipeline, whatever was saved
        assert loaded.text.fingerprint == model.text.fingerprint
    assert loaded.baseline_token_id == model.baseline_token_id


def test_weights_are_loaded_in_the_asked_type(tmp_path: Path) -> None:
    save(explained("bert"), tmp_path)
    loaded = ExplainedModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.embedding.weight.dtype == torch.bfloat16
    assert ExplainedModel.from_pretrained(tmp_path).embedding.weight.dtype == torch.float32


def test_an_adapter_with_its_head_loads_as_the_unmerged_model(base: Path, tmp_path: Path) -> None:
    adapter = adapted(base)
    adapter.save_pretrained(tmp_path / "adapter")
    loaded = ExplainedModel.from_pretrained(tmp_path / "adapter")
    expected = logits_of(adapter, loaded)
    assert expected.shape == (len(TEXTS), 4)
    found = predictions(loaded, [text.tokens for text in loaded.encode(TEXTS)])
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    with adapter.disable_adapter():
        assert not torch.allclose(logits_of(adapter, loaded), expected, atol=1e-3)


def test_an_adapter_s_own_configuration_names_the_labels(base: Path, tmp_path: Path) -> None:
    adapter = adapted(base)
    adapter.save_pretrained(tmp_path / "adapter")
    config = adapter.get_base_model().config
    config.id2label = dict(enumerate("wxyz"))
    config.save_pretrained(tmp_path / "adapter")
    assert ExplainedModel.from_pretrained(tmp_path / "adapter").labels == list("wxyz")


def test_an_adapter_without_a_head_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = get_peft_model(AutoModel.from_pretrained(base), LoraConfig(r=2, target_modules=["query"]))
    adapter.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="PEFT adapter without a classification head"):
        ExplainedModel.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize("name", ["/no/such/model", "./nothing", "checkpoints/nothing", "a/b/c"])
def test_a_path_with_nothing_at_it_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`model` '{name}' is a path, and there is nothing at it"):
        ExplainedModel.from_pretrained(name)


def test_an_unreachable_hub_id_is_refused() -> None:
    with pytest.raises(ValueError, match="'nobody/no-such-model' could not be loaded"):
        ExplainedModel.from_pretrained("nobody/no-such-model")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder without a config\.json"):
        ExplainedModel.from_pretrained(tmp_path)


def test_a_model_without_a_head_is_refused(base: Path) -> None:
    with pytest.raises(ValueError, match=r"is no sequence classifier \(its architectures: \['BertModel'\]\)"):
        ExplainedModel.from_pretrained(base)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    save(explained("bert"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="could not be loaded"):
        ExplainedModel.from_pretrained(tmp_path)


def test_load_base_gives_a_head_for_the_labels(base: Path) -> None:
    model, words, fresh = loading.load_base(str(base), ["no", "yes"], torch.float32)
    assert fresh == ["classifier"]
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert model.config.label2id == {"no": 0, "yes": 1}
    assert model.classifier.weight.shape[0] == 2
    assert len(words) == len(tokenizer("encoder"))
    assert torch.equal(model.get_input_embeddings().weight, explained("bert").embedding.weight)


def test_own_state_dict_has_the_model_s_own_names(base: Path) -> None:
    plain = AutoModel.from_pretrained(base)
    names = set(plain.state_dict())
    adapter = get_peft_model(plain, LoraConfig(r=2, target_modules=["query"]))
    assert set(loading.own_state_dict(adapter.base_model.model)) == names


def test_an_adapter_names_a_base_that_must_exist(base: Path, tmp_path: Path) -> None:
    adapted(base).save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="gone"):
        ExplainedModel.from_pretrained(tmp_path / "adapter")
