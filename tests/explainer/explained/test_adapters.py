"""PEFT adapters: added tokens, what cannot be merged, bases, and files that contradict each other."""

import importlib.util
import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DebertaV2Config, DebertaV2Model

from explainer.explained import ExplainedModel, adapters
from tests.explainer.tools import predictions
from tests.families import explained

# peft 0.21 asks transformers 5.23 by its old name: https://github.com/huggingface/peft
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
TEXT = "the film was <e0> great fun"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with `base`, a tiny BERT without a classification head."""
    explained("bert").backbone.save_pretrained(tmp_path / "base")
    explained("bert").tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path


def with_head(base: Path, added: int = 0) -> tuple[Any, Any]:
    """The base with a fresh head of three classes, its tokenizer, and so many tokens added to both."""
    torch.manual_seed(0)
    model, words = (
        AutoModelForSequenceClassification.from_pretrained(base, num_labels=3),
        AutoTokenizer.from_pretrained(base),
    )
    if added:
        words.add_tokens([f"<e{i}>" for i in range(added)])
        model.resize_token_embeddings(len(words))
    return model, words


def adapted(base: Path, folder: Path, added: int = 0, **settings: Any) -> tuple[Any, Any]:
    """A LoRA that does something on the base, its head included; saved with its tokenizer."""
    saving = {name: settings.pop(name) for name in ("save_embedding_layers", "safe_serialization") if name in settings}
    model, words = with_head(base, added)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, **{"target_modules": ["query", "value"], **settings})
    adapter = peft.get_peft_model(model, config).eval()
    move(adapter)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`", category=UserWarning)
        adapter.save_pretrained(folder, **saving)
    words.save_pretrained(folder)
    return adapter, words


def move(adapter: Any) -> None:
    """Move every weight that is trained off its start."""
    with torch.no_grad():
        for parameter in adapter.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))


def same_logits(folder: Path, adapter: Any, words: Any) -> None:
    loaded = ExplainedModel.from_pretrained(folder)
    with torch.no_grad():
        expected = adapter(**words(TEXT, return_tensors="pt")).logits[0]
    found = predictions(loaded, [text.tokens for text in loaded.encode([TEXT])])[0]
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def change(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(edit(load_file(path)), path, metadata={"format": "pt"})


# Added tokens

WAYS: dict[str, dict[str, Any]] = {
    "modules_to_save": {"modules_to_save": ["word_embeddings", "classifier"]},
    "save_embedding_layers": {"save_embedding_layers": True},
    "a LoRA on the embedding": {"target_modules": ["query", "word_embeddings"]},
    "trained rows, and the whole table": {"trainable_token_indices": [86, 87]},
    "trained rows alone": {"trainable_token_indices": {"word_embeddings": [86, 87]}, "save_embedding_layers": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_added_tokens_are_served_however_they_were_saved(way: str, root: Path) -> None:
    same_logits(root / "adapter", *adapted(root / "base", root / "adapter", added=2, **WAYS[way]))


def test_a_base_that_was_resized_and_saved_is_served(root: Path) -> None:
    for part in with_head(root / "base", added=2):
        part.save_pretrained(root / "resized")
    same_logits(root / "adapter", *adapted(root / "resized", root / "adapter", save_embedding_layers=False))


@pytest.mark.parametrize("trained", [None, {"word_embeddings": [86]}])
def test_tokens_without_embeddings_are_refused(trained: dict[str, list[int]] | None, root: Path) -> None:
    adapted(root / "base", root / "adapter", 2, save_embedding_layers=False, trainable_token_indices=trained)
    with pytest.raises(
        ValueError, match=r"tokenizer has 88 tokens, and there are 8[67] embeddings.*save_embedding_layers"
    ):
        ExplainedModel.from_pretrained(root / "adapter")


# Kinds


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"rank_pattern": {"query": 4}},
        {"init_lora_weights": "pissa"},
    ],
    ids=str,
)
def test_variants_of_lora_are_merged(settings: dict[str, Any], root: Path) -> None:
    same_logits(root / "adapter", *adapted(root / "base", root / "adapter", **settings))


@pytest.mark.parametrize(
    "config",
    [
        peft.IA3Config(
            task_type="SEQ_CLS", target_modules=["query", "output.dense"], feedforward_modules=["output.dense"]
        ),
        peft.AdaLoraConfig(task_type="SEQ_CLS", target_modules=["query"], init_r=4, total_step=10),
        peft.LoHaConfig(task_type="SEQ_CLS", target_modules=["query"], r=2, modules_to_save=["classifier"]),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_other_adapters_are_merged(config: Any, root: Path) -> None:
    model, words = with_head(root / "base")
    adapter = peft.get_peft_model(model, config).eval()
    move(adapter)
    adapter.save_pretrained(root / "adapter")
    same_logits(root / "adapter", adapter, words)


@pytest.mark.parametrize("kind", [peft.PromptTuningConfig, peft.PrefixTuningConfig, peft.PromptEncoderConfig])
def test_virtual_tokens_are_refused(kind: Any, root: Path) -> None:
    config = kind(task_type="SEQ_CLS", num_virtual_tokens=3)
    peft.get_peft_model(with_head(root / "base")[0], config).save_pretrained(root / "adapter")
    with pytest.raises(ValueError, match=r"is a PEFT adapter of kind .* cannot be merged"):
        ExplainedModel.from_pretrained(root / "adapter")


# What is not there


def test_weights_in_a_pickle_are_refused(root: Path) -> None:
    adapted(root / "base", root / "adapter", safe_serialization=False)
    with pytest.raises(
        ValueError, match=r"without adapter_model\.safetensors\. Weights in adapter_model\.bin are a pickle"
    ):
        ExplainedModel.from_pretrained(root / "adapter")


def test_a_pooler_in_neither_file_is_refused(tmp_path: Path) -> None:
    """DeBERTa's pooler is part of the head, and PEFT saves only the `classifier`."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    DebertaV2Model(DebertaV2Config(**sizes, vocab_size=86, pad_token_id=0)).save_pretrained(tmp_path / "base")
    explained("bert").tokenizer.save_pretrained(tmp_path / "base")
    adapted(tmp_path / "base", tmp_path / "adapter", target_modules=["query_proj", "value_proj"])
    with pytest.raises(ValueError, match=r"not all there: 2 of its weights .* such as 'pooler\.dense\.bias'"):
        ExplainedModel.from_pretrained(tmp_path / "adapter")
    kept = {"target_modules": ["query_proj", "value_proj"], "modules_to_save": ["classifier", "pooler"]}
    same_logits(tmp_path / "adapter", *adapted(tmp_path / "base", tmp_path / "adapter", **kept))


def without(part: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name: weight for name, weight in weights.items() if part not in name}


def test_missing_weights_are_refused(root: Path) -> None:
    adapted(root / "base", root / "adapter")
    shutil.copytree(root / "adapter", root / "lora")
    change_weights(root / "lora", without("layer.1.attention.self.query.lora_B"))
    with pytest.raises(
        ValueError, match=r"do not fit together: its weights lack .*layer\.1\.attention\.self\.query\.lora_B"
    ):
        ExplainedModel.from_pretrained(root / "lora")
    change_weights(root / "adapter", without("classifier"))
    with pytest.raises(ValueError, match="without a classification head"):
        ExplainedModel.from_pretrained(root / "adapter")


def test_infinite_weights_are_refused(root: Path) -> None:
    adapted(root / "base", root / "adapter")
    change_weights(root / "adapter", lambda weights: {name: weight / 0 for name, weight in weights.items()})
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors' is broken: its weight .* holds NaN or infinite"):
        ExplainedModel.from_pretrained(root / "adapter")


def test_truncated_weights_are_refused(root: Path) -> None:
    adapted(root / "base", root / "adapter")
    path = root / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors' is missing or broken"):
        ExplainedModel.from_pretrained(root / "adapter")


# Bases


@pytest.mark.parametrize("name", [None, "", 3, ["base"]])
def test_an_adapter_without_a_base_is_refused(name: Any, root: Path) -> None:
    adapted(root / "base", root / "adapter")
    change(root / "adapter", base_model_name_or_path=name)
    with pytest.raises(ValueError, match=r"names no base: write the base's hub id or folder into adapter_config\.json"):
        ExplainedModel.from_pretrained(root / "adapter")


def test_a_base_is_found_from_the_adapter_s_folder(root: Path) -> None:
    pair = adapted(root / "base", root / "adapter")
    change(root / "adapter", base_model_name_or_path="../base")
    same_logits(root / "adapter", *pair)
    shutil.move(root / "base", root / "adapter" / "base")
    change(root / "adapter", base_model_name_or_path="base")
    same_logits(root / "adapter", *pair)


@pytest.mark.parametrize("name", ["../quantised", "../quantised/model.gguf", "public/quantised"])
def test_a_base_may_be_in_a_gguf_file(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in its folder, by its own name, or in the package that carries a hub model."""
    adapted(root / "base", root / "adapter")
    (root / "quantised").mkdir()
    (root / "quantised" / "model.gguf").write_bytes(b"GGUF")
    if name.startswith("public"):
        monkeypatch.setattr(adapters, "locate", lambda name: str(root / "quantised" / "model.gguf"))
    change(root / "adapter", base_model_name_or_path=name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"quantised/model.gguf' is a GGUF file, and reading it needs"):
        ExplainedModel.from_pretrained(root / "adapter")


def test_a_base_that_is_nowhere_is_refused(root: Path) -> None:
    adapted(root / "base", root / "adapter")
    change(root / "adapter", base_model_name_or_path="../elsewhere")
    with pytest.raises(ValueError, match=r"of the base '\.\./elsewhere', and there is no such folder"):
        ExplainedModel.from_pretrained(root / "adapter")


def test_an_adapter_on_an_adapter_is_refused(root: Path) -> None:
    adapted(root / "base", root / "adapter")
    change(root / "adapter", base_model_name_or_path=".")
    with pytest.raises(ValueError, match=r"of the base '\.', which is an adapter itself"):
        ExplainedModel.from_pretrained(root / "adapter")


# Contradictions

CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "other modules": ({"target_modules": ["dense"]}, "do not fit together"),
    "fewer modules": ({"target_modules": ["query"]}, "do not fit together: its weights have, without a place"),
    "default modules": ({"target_modules": None, "peft_type": "LOHA"}, "do not fit together"),
    "a smaller rank": ({"r": 1}, "do not fit together"),
    "a huge rank": ({"r": 10**9}, "rank is 1000000000 in adapter_config.json, and 2 in its weights"),
    "a rank that is none": ({"r": "2"}, "rank is '2'"),
    "an alpha that is none": ({"lora_alpha": "32"}, "do not fit together"),
    "an infinite alpha": ({"lora_alpha": float("inf")}, "NaN or infinite"),
    "another kind": ({"peft_type": "NEW"}, "of an unknown kind: its `peft_type` is 'NEW'"),
    "no kind": ({"peft_type": None}, "of an unknown kind"),
    "code to import": ({"megatron_config": {}, "megatron_core": "antigravity"}, "has `megatron_config`"),
    "repeated layers": ({"layer_replication": [[0, 2]] * 3}, "has `layer_replication`"),
    "a pattern in modules_to_save": ({"modules_to_save": ["(a+)+"]}, "`modules_to_save` holds '(a+)+'"),
    "a pattern of ranks": ({"rank_pattern": {"(([a-z]+)+)+X": 2}}, "`rank_pattern` holds"),
    "a pattern of alphas": ({"alpha_pattern": {"(([a-z]+)+)+X": 2}}, "`alpha_pattern` holds"),
    "a pattern of layers": ({"layers_pattern": "(([a-z]+)+)+X", "layers_to_transform": [0]}, "`layers_pattern` holds"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_configuration_that_contradicts_the_weights_is_refused(case: str, root: Path) -> None:
    adapted(root / "base", root / "adapter")
    values, told = CONTRADICTIONS[case]
    change(root / "adapter", **values)
    with pytest.raises(ValueError, match=re.escape(told)):
        ExplainedModel.from_pretrained(root / "adapter")


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 10**5, "\ud800"])
def test_a_broken_configuration_is_refused(text: str, root: Path) -> None:
    adapted(root / "base", root / "adapter")
    (root / "adapter" / "adapter_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"adapter_config\.json' (is no JSON|holds no mapping)"):
        ExplainedModel.from_pretrained(root / "adapter")


@pytest.mark.parametrize("name", ["target_modules", "exclude_modules"])
def test_a_regular_expression_is_not_matched(name: str, root: Path) -> None:
    """The modules are read off the weights; this expression would take years."""
    pair = adapted(root / "base", root / "adapter")
    change(root / "adapter", **{name: "(([a-z.0-9_]+)+)+X"})
    same_logits(root / "adapter", *pair)
    pair = adapted(
        root / "base", root / "adapter", bias="lora_only", use_dora=True, target_modules=r".*\.(query|value)"
    )
    same_logits(root / "adapter", *pair)
