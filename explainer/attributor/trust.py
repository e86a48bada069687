"""Trust: how well each map agrees with the prediction it explains, and another method where it does not.

One extra batched pass reads two shortened copies of every text: its highest scored tokens deleted, and those alone
(ERASER's comprehensiveness and sufficiency, DeYoung et al., ACL 2020). "Highest" is the top 20 % of the scorable tokens
and at least one of them, so that short texts are judged too; a threshold on the scores themselves would need them to be
calibrated, which only AML's losses ask of an explainer, and no method promises.

What falls back was chosen by a number of the text itself, so that its gain in that very number is partly selection;
`docs/methods.md` says what it gains in others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from explainer.explained import EncodedText, ExplainedModel, Tokens
from explainer.explanation import Explanation, Trust
from explainer.faithfulness.perturbation import keep, of_target, remove, top_k
from explainer.methods import AbstractMethod, method
from explainer.methods.run import scores_of
from explainer.typing import TokenMask, TokenScores

PERCENT = 20.0

Keep = Literal["mean", "fallback", "better"]


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
        keep: `mean` averages the two maps, the method's scaled to the first one's spread, and chooses nothing;
            `fallback` keeps the method's map, `better` the more faithful of the two: a best of 2 on the text itself,
            as the label then says.
    """

    method: AbstractMethod
    min_faithfulness: float
    keep: Keep = "mean"

    def __post_init__(self) -> None:
        if self.keep not in get_args(Keep):
            raise ValueError(f"`keep` must be one of {', '.join(get_args(Keep))}, got {self.keep!r}.")

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
        """The explanations with their trust, those below the threshold made anew; texts without tokens stay."""
        found = trusted(explained, texts, explanations)
        low = [i for i, e in enumerate(found) if _faithfulness(e) < self.min_faithfulness and any(e.scorable)]
        if not low:
            return found
        their = [texts[i] for i in low]
        targets = torch.tensor([found[i].target for i in low])
        scores = scores_of(self.method, explained, their, targets)
        anew = [self._anew(found[i], score) for i, score in zip(low, scores, strict=True)]
        for i, other in zip(low, trusted(explained, their, anew), strict=True):
            found[i] = self._better(found[i], other) if self.keep == "better" else other
        return found

    def forward_equivalents(self, n_scorable: int) -> float:
        """What a text costs that falls back: the method and one pass for the trust in its map.

        Every text costs one such pass: its two copies have 20 % and 80 % of the tokens.
        """
        return self.method.forward_equivalents(n_scorable) + 1.0

    def _anew(self, first: Explanation, scores: TokenScores) -> Explanation:
        if self.keep != "mean":
            return replace(first, scores=scores.tolist(), method=f"{self.method.label} (fallback)")
        mean = _mean(torch.tensor(first.scores), scores, torch.tensor(first.scorable))
        return replace(first, scores=mean.tolist(), method=f"{first.method} + {self.method.label} (fallback)")

    def _better(self, first: Explanation, other: Explanation) -> Explanation:
        best = max(first, other, key=_faithfulness)  # the first of equal ones
        label = first.method if best is first else self.method.label
        return replace(best, method=f"{label} (best of 2 by faithfulness at {PERCENT:g} %)")


def _mean(first: TokenScores, other: TokenScores, scorable: TokenMask) -> TokenScores:
    """The mean of two maps of equal spread; not centred, since a score's sign says for or against."""
    ours, theirs = (scores[scorable].std(correction=0) for scores in (first, other))
    return (first + other * torch.where(theirs > 0, ours / theirs, 0.0)) / 2


def _faithfulness(explanation: Explanation) -> float:
    assert explanation.trust is not None
    return explanation.trust.faithfulness
