"""captum's own layer integrated gradients of what export.py wrote, without a line of ours.

python benchmarks/independent/captum_scores.py FOLDER/NAME
"""

import sys
from pathlib import Path

import torch
from captum.attr import LayerIntegratedGradients
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification


def integrated_gradients(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores (texts, tokens): from the baseline token at every scorable position, 50 Gauss-Legendre points."""
    ids, scorable = inputs["input_ids"], inputs["scorable"]
    method = LayerIntegratedGradients(lambda *given: model(*given).logits, model.get_input_embeddings())
    parts = method.attribute(
        ids,
        torch.where(scorable, inputs["baseline"], ids),
        target=inputs["target"],
        additional_forward_args=(inputs["attention_mask"], inputs["token_type_ids"]),
        n_steps=50,
        internal_batch_size=64,
    )
    return parts.sum(dim=-1).detach() * scorable


def main(folder: Path) -> None:
    inputs = load_file(folder / "inputs.safetensors")
    scores = {}
    for dtype in ("float64", "float32"):
        model = AutoModelForSequenceClassification.from_pretrained(folder / "model").to(getattr(torch, dtype)).eval()
        scores[f"integrated_gradients/{dtype}"] = integrated_gradients(model, inputs)
    save_file(scores, folder / "captum.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
