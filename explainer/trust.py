"""Trust: how well each map agrees with the prediction it explains, and another method where it does not.

One extra batched pass reads two shortened copies of every text: its highest scored tokens deleted, and those alone
(ERASER's comprehensiveness and sufficiency, DeYoung et al., ACL 2020). "Highest" is the top 20 % of the scorable tokens
and at least one of them, so that short texts are judged too; a threshold on the scores themselves would need them to be
calibrated, which only AML's losses ask of an explainer, and no method promises.

A fallback chooses between two maps by looking at the text, so its gain on that very number is selection;
`docs/methods.md` says what it gains on others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from explainer.explained import EncodedText, ExplainedModel, Tokens
from explainer.explanation import Explanation, Trust
from explainer.methods import AbstractMethod, method
from explainer.methods.run import scores_of
from explainer.perturbation import keep, of_target, remove, top_k

PERCENT = 20.0


def trusts(explained: ExplainedModel, texts: Sequence[EncodedText], explanations: Sequence[Explanation]) -> list[Trust]:
    """The trust in each explanation, from one pooled prediction of two shortened copies a text."""
    rows: list[Tokens] = []
    for text, explanation in zip(texts, explanations, strict=True):
        highest = top_k(torch.tensor(explanation.scores), text.scorable, top_tokens(text.n_scorable))
        rows += [remove(text, highest), keep(text, highest)]
    targets = torch.tensor([explanation.target for explanation in explanations]).repeat_interleave(2)
    _, probabilities = of_target(explained, rows, targets)
    whole = [explanation.probabilities[explanation.target] for explanation in explanations]
    return [Trust(p - d, p - k) for p, (d, k) in zip(whole, probabilities.view(-1, 2).tolist(), strict=True)]


def top_tokens(n_scorable: int) -> int:
    """How many tokens count as highest: a fifth, rounded down, and one at least.

    >>> top_tokens(3), top_tokens(25)
    (1, 5)
    """
    return max(1, int(n_scorable * PERCENT / 100 + 1e-9))


def trusted(
    explained: ExplainedModel, texts: Sequence[EncodedText], explanations: Sequence[Explanation]
) -> list[Explanation]:
    """The explanations with their trust."""
    found = trusts(explained, texts, explanations)
    return [replace(explanation, trust=trust) for explanation, trust in zip(explanations, found, strict=True)]


@dataclass(frozen=True)
class Fallback:
    """Another method for the explanations whose faithfulness is too low.

    Args:
        method: what explains those texts anew.
        min_faithfulness: explanations below it are explained anew.
        keep: `better` keeps the more faithful of the two maps, which is a best of 2 on the text itself and is
            labelled so; `fallback` keeps the method's, whatever its own faithfulness.
    """

    method: AbstractMethod
    min_faithfulness: float
    keep: Literal["better", "fallback"] = "better"

    def __post_init__(self) -> None:
        if self.keep not in ("better", "fallback"):
            raise ValueError(f"`keep` must be `better` or `fallback`, got {self.keep!r}.")

    @classmethod
    def of(
        cls, given: "str | AbstractMethod | Fallback | None", min_faithfulness: float | int | None
    ) -> "Fallback | None":
        """A method by its name, its settings, or a whole `Fallback`.

        Raises:
            ValueError: when there is no such method, or the method comes without a threshold or the reverse.
        """
        if given is None and min_faithfulness is None:
            return None
        if isinstance(given, Fallback):
            return given if min_faithfulness is None else replace(given, min_faithfulness=float(min_faithfulness))
        if given is None or min_faithfulness is None:
            raise ValueError(
                "`fallback` (a method) and `min_faithfulness` (explanations below it are made anew) go together, got "
                f"fallback={given!r} and min_faithfulness={min_faithfulness!r}."
            )
        return cls(method(given) if isinstance(given, str) else given, float(min_faithfulness))

    def __call__(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], explanations: Sequence[Explanation]
    ) -> list[Explanation]:
        """The explanations with their trust, those below the threshold made anew."""
        found = trusted(explained, texts, explanations)
        low = [i for i, e in enumerate(found) if _faithfulness(e) < self.min_faithfulness and any(e.scorable)]
        targets = torch.tensor([found[i].target for i in low], dtype=torch.int64)
        scores = scores_of(self.method, explained, [texts[i] for i in low], targets)
        anew = [replace(found[i], scores=s.tolist(), method=self.label) for i, s in zip(low, scores, strict=True)]
        anew = trusted(explained, [texts[i] for i in low], anew)
        for i, other in zip(low, anew, strict=True):
            found[i] = self._chosen(found[i], other)
        return found

    @property
    def label(self) -> str:
        return f"{self.method.label} (fallback)"

    def _chosen(self, first: Explanation, other: Explanation) -> Explanation:
        if self.keep == "fallback":
            return other
        best = max(first, other, key=_faithfulness)  # the first of equal ones
        label = first.method if best is first else self.method.label
        return replace(best, method=f"{label} (best of 2 by faithfulness at {PERCENT:g} %)")


def _faithfulness(explanation: Explanation) -> float:
    assert explanation.trust is not None
    return explanation.trust.faithfulness
