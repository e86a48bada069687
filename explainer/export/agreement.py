"""What a program that is no longer equal costs: its agreement with the attributor that it was made from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from explainer.explained import ExplainedModel
from explainer.explained.base import PREDICTED
from explainer.explained.passes import token_budgeted
from explainer.export.program import Run, inputs_of
from explainer.methods.run import predictions_and_scores
from explainer.methods.trained.amortized import Amortized
from explainer.metrics import spearman, top_k_overlap


@dataclass(frozen=True)
class Agreement:
    """Means over n texts, both sides explaining the class that PyTorch predicts.

    Attributes:
        spearman: rank correlation of the scores.
        top_20_overlap: share of the top fifth of the tokens that is in the program's top fifth too.
        changed_predictions: texts for which the program predicts another class.
        largest_probability_difference: of any class of any text.
    """

    n: int
    spearman: float
    top_20_overlap: float
    changed_predictions: int
    largest_probability_difference: float

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"on {self.n} texts: Spearman {self.spearman:.3f}, top-20 % overlap {self.top_20_overlap:.3f}, "
            f"{self.changed_predictions} predictions changed, probabilities off by at most "
            f"{self.largest_probability_difference:.3f}"
        )


def agreement(run: Run, explained: ExplainedModel, method: Amortized, texts: Sequence[str]) -> Agreement:
    """The program's scores and predictions beside PyTorch's."""
    encoded = explained.encode(texts)
    asked = torch.full((len(encoded), 1), PREDICTED)
    probabilities, targets, scores = predictions_and_scores(method, explained, encoded, asked)
    found, theirs = torch.empty_like(probabilities), [torch.empty(0)] * len(encoded)
    for chunk in token_budgeted([len(text) for text in encoded], explained.batch_tokens):
        logits, rows = run(inputs_of(explained, [encoded[i] for i in chunk], targets[chunk, 0]))
        found[chunk] = logits.softmax(dim=1).cpu()
        for i, row in zip(chunk, rows, strict=True):
            theirs[i] = row[: len(encoded[i])].cpu()
    pairs = [(b[t.scorable], a[0][t.scorable]) for a, b, t in zip(scores, theirs, encoded, strict=True)]
    return Agreement(
        n=len(encoded),
        spearman=float(torch.stack([spearman(mine, other) for mine, other in pairs]).nanmean()),
        top_20_overlap=float(torch.stack([top_k_overlap(mine, other) for mine, other in pairs]).nanmean()),
        changed_predictions=int((found.argmax(dim=1) != targets[:, 0]).sum()),
        largest_probability_difference=float((found - probabilities).abs().max()),
    )
