"""Agreement between a program and the attributor it was made from: equal to 1e-4, or as near as int8 weights come."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from explainer.explained import PREDICTED, Readout, Target
from explainer.export.exportable import ExportableAttributor, Run
from explainer.metrics import spearman, top_k_overlap

TOLERANCE = 1e-4
N_CHECKED = 16


@torch.no_grad()
def check(run: Run, attributor: ExportableAttributor, texts: Sequence[str], what: str) -> float:
    """The largest difference of a program's padded batches from the attributor's own results, text by text.

    The first texts are run for the predicted label and for the others in turn.

    Raises:
        ValueError: when it is above `TOLERANCE`, absolute or relative to the value.
    """
    explained = attributor.explained
    encoded = explained.encode(texts[:N_CHECKED])
    choices = [*([PREDICTED] if attributor.has_prediction else []), *range(len(explained.labels))]
    target = torch.tensor([choices[i % len(choices)] for i in range(len(encoded))])
    largest = 0.0
    for part in (slice(1), slice(1, 4), slice(len(encoded))):  # one text, three, all: each batch of another length
        if not encoded[part]:
            continue
        logits, scores = run(attributor.inputs(encoded[part], target[part]))
        for i, text in enumerate(encoded[part]):
            # Alone in its batch, its special tokens by the tokenizer's own mask.
            one = target[part][i : i + 1].to(explained.device)
            own_logits, own_scores = attributor.explain(explained.collate([text]), one)
            expected = pad(own_scores[0], (0, scores.shape[1] - len(text)))
            largest = max(largest, _difference(logits[i], own_logits[0]), _difference(scores[i], expected))
    if not largest <= TOLERANCE:
        raise ValueError(
            f"{what} of {explained.name!r} differs from PyTorch by {largest:.1e}, more than {TOLERANCE:.0e}: "
            "it is not written."
        )
    return largest


@dataclass(frozen=True)
class Agreement:
    """Means over n texts, both sides explaining the label that PyTorch predicts (the first of several values).

    Attributes:
        spearman: rank correlation of the scores.
        top_20_overlap: share of the top fifth of the tokens that is in the program's top fifth too.
        changed_predictions: texts for which the program predicts another label, or other labels of several; None where
            values are predicted.
        largest_probability_difference: of any label of any text; None where there are no probabilities.
        largest_logit_difference: of any label of any text.
    """

    n: int
    spearman: float
    top_20_overlap: float
    changed_predictions: int | None
    largest_probability_difference: float | None
    largest_logit_difference: float | None = None

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        prediction = (
            f"predicted values off by at most {self.largest_logit_difference:.3f}"
            if self.largest_probability_difference is None
            else f"{self.changed_predictions} predictions changed, probabilities off by at most "
            f"{self.largest_probability_difference:.3f}"
        )
        return (
            f"on {self.n} texts: Spearman {self.spearman:.3f}, top-20 % overlap {self.top_20_overlap:.3f}, {prediction}"
        )


def agreement(run: Run, attributor: ExportableAttributor, texts: Sequence[str]) -> Agreement:
    """The program's scores and predictions compared with PyTorch's."""
    explained = attributor.explained
    encoded = explained.encode(texts)
    target = Target.of([PREDICTED if attributor.has_prediction else 0] * len(encoded))
    expected, [attributions] = attributor.method.explain(explained, encoded, [target])
    logits, scores = torch.empty_like(expected.logits), [torch.empty(0)] * len(encoded)
    for chunk in explained.batches(encoded):
        chunk_logits, chunk_scores = run(
            attributor.inputs([encoded[i] for i in chunk], attributions.target[chunk].classes)
        )
        logits[chunk] = chunk_logits[:, None].cpu()
        for i, padded in zip(chunk, chunk_scores, strict=True):
            scores[i] = padded[: len(encoded[i])].cpu()
    pairs = [
        (score[text.scorable], reference[text.scorable])
        for score, reference, text in zip(scores, attributions.scores, encoded, strict=True)
    ]
    readout = Readout(logits, expected.link)
    return Agreement(
        n=len(encoded),
        spearman=float(torch.stack([spearman(score, reference) for score, reference in pairs]).nanmean()),
        top_20_overlap=float(torch.stack([top_k_overlap(score, reference) for score, reference in pairs]).nanmean()),
        changed_predictions=_changed(readout, expected),
        largest_probability_difference=_largest(readout.probabilities, expected.probabilities),
        largest_logit_difference=_largest(readout.logits, expected.logits),
    )


def _changed(readout: Readout, expected: Readout) -> int | None:
    """Texts of which the one label, or the set of labels with a probability above a half, is another."""
    if readout.link == "identity":
        return None
    if readout.link == "sigmoid":
        return int(((readout.logits > 0) != (expected.logits > 0)).flatten(1).any(dim=1).sum())
    return int((readout.predicted().choices != expected.predicted().choices).sum())


def _largest(values: Tensor | None, expected: Tensor | None) -> float | None:
    return None if values is None or expected is None else float((values - expected).abs().max())


def _difference(values: Tensor, expected: Tensor) -> float:
    """The largest, absolute or relative to a value above 1; infinite where one is NaN."""
    apart = (values.cpu() - expected.cpu()).abs() / expected.cpu().abs().clamp(min=1)
    return float(apart.nan_to_num(nan=torch.inf).max())
