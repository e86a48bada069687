"""time-interpret's sequential integrated gradients of what export.py wrote, in an environment of its own.

git clone https://github.com/josephenguehard/time_interpret tint && cd tint && git checkout ebef736
python -m venv env && env/bin/pip install torch transformers captum pytorch-lightning scikit-learn pandas scipy
PYTHONPATH=tint env/bin/python benchmarks/independent/time_interpret_scores.py FOLDER/NAME [STEPS ...]

Texts go through one at a time and unpadded. The baseline is a tensor: the baseline token's embedding everywhere.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tint.attr import SequentialIntegratedGradients
from transformers import AutoModelForSequenceClassification


def sequential(model, inputs: dict[str, torch.Tensor], n_steps: int) -> torch.Tensor:
    """Scores (texts, tokens), 0 where not scorable."""
    method = SequentialIntegratedGradients(lambda embeddings: model(inputs_embeds=embeddings).logits)
    embed = model.get_input_embeddings()
    scores = torch.zeros(inputs["input_ids"].shape, dtype=model.dtype)
    for i, mask in enumerate(inputs["attention_mask"].bool()):
        embeddings = embed(inputs["input_ids"][i : i + 1, mask]).detach()
        baseline = embed(inputs["baseline"]).detach().expand_as(embeddings)
        parts = method.attribute(embeddings, baseline, target=int(inputs["target"][i]), n_steps=n_steps)
        scores[i, mask] = parts.sum(dim=-1)[0].detach()
    return scores * inputs["scorable"]


def main(folder: Path, *steps: str) -> None:
    inputs = load_file(folder / "inputs.safetensors")
    scores = {}
    for dtype in ("float64", "float32"):
        model = AutoModelForSequenceClassification.from_pretrained(folder / "model").to(getattr(torch, dtype)).eval()
        for n in map(int, steps or (2, 5, 10, 20, 50)):
            scores[f"sig_{n}/{dtype}"] = sequential(model, inputs, n)
    save_file(scores, folder / "time_interpret.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
