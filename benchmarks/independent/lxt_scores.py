"""LXT's relevance of what export.py wrote, computed in an environment of its own (LXT changes transformers' classes).

git clone https://github.com/rachtibat/LRP-eXplains-Transformers lxt && cd lxt && git checkout f043441
python -m venv env && env/bin/pip install torch transformers==5.9.0 zennit accelerate tabulate
PYTHONPATH=lxt env/bin/python benchmarks/independent/lxt_scores.py FOLDER/NAME [attn_lrp|cp_lrp] [eager|sdpa]

One process a model and rule, since the patches stay. Texts go through one at a time and unpadded. LXT's BERT runs
with transformers 4 only (it calls `get_head_mask`), the rest of LXT with transformers 5 only: for BERT, take a second
environment with transformers==4.52.4 (attn_lrp only; cp_lrp is in the first).
"""

import importlib
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

if transformers.__version__.startswith("4."):  # has no Qwen3MoeExperts, which LXT imports whatever model is wanted
    absent = ModuleType("lxt.efficient.models.qwen3_moe")
    absent.modeling_qwen3_moe, absent.attnLRP = absent, {}
    sys.modules[absent.__name__] = absent

from lxt.efficient import monkey_patch, patches


def patch(folder: Path, rule: str) -> None:
    kind = json.loads((folder / "model" / "config.json").read_text())["model_type"].removesuffix("_text")
    modeling = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    if rule == "attn_lrp":
        monkey_patch(modeling, verbose=True)
    elif kind == "bert":
        monkey_patch(modeling, cp_bert(modeling), verbose=True)
    else:
        monkey_patch(modeling, importlib.import_module(f"lxt.efficient.models.{kind}").cp_LRP, verbose=True)


def cp_bert(modeling: ModuleType) -> dict:
    """LXT ships no CP-LRP for BERT: its own patches on transformers' BERT, as its GPT-2 has them."""
    act = partial(patches.patch_method, patches.non_linear_forward, keep_original=True)
    return {
        torch.nn.LayerNorm: partial(patches.patch_method, patches.layer_norm_forward),
        torch.nn.Dropout: partial(patches.patch_method, patches.dropout_forward),
        transformers.activations.GELUActivation: act,
        torch.nn.Tanh: act,
        modeling: patches.patch_cp_attention,
    }


def relevance(model, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (texts, labels) and scores (texts, tokens) in float64."""
    scores = torch.zeros(inputs["input_ids"].shape, dtype=torch.float64)
    logits = []
    for i, mask in enumerate(inputs["attention_mask"].bool()):
        embeddings = model.get_input_embeddings()(inputs["input_ids"][i : i + 1, mask]).detach().requires_grad_()
        types = {k: inputs[k][i : i + 1, mask] for k in ("token_type_ids",) if k in inputs}
        found = model(inputs_embeds=embeddings, **types).logits
        found[0, inputs["target"][i]].backward()
        scores[i, mask] = (embeddings * embeddings.grad).sum(dim=-1)[0].detach().double()
        logits.append(found[0].detach().double())
    return torch.stack(logits), scores


def main(folder: Path, rule: str = "attn_lrp", attention: str = "eager") -> None:
    patch(folder, rule)
    inputs = load_file(folder / "inputs.safetensors")
    output = folder / "lxt.safetensors"
    scores = load_file(output) if output.exists() else {}
    for dtype in ("float64", "float32"):
        model = AutoModelForSequenceClassification.from_pretrained(folder / "model", attn_implementation=attention)
        model = model.to(getattr(torch, dtype)).eval().requires_grad_(False)
        scores[f"logits/{dtype}"], scores[f"{rule}/{dtype}"] = relevance(model, inputs)
    save_file(scores, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
