"""Trust: how well an explanation agrees with the prediction it explains, and another method where it does not.

Two shortened copies of every text are predicted in one extra pass: the text without its highest scored tokens, and
those tokens alone (ERASER's comprehensiveness and sufficiency, DeYoung et al., ACL 2020). The highest tokens are the
top 20 % of the scorable ones and at least one, so that short texts are judged too. A threshold on the scores themselves
would need calibrated scores, and no method promises those.

Both numbers are differences of the target's probability. A regression has no probabilities; there they are differences
of the predicted value, in its own units, and so is the threshold of a fallback. A foil or another score of the target
does not change what trust measures.

A text falls back because its own faithfulness is low. Part of the measured gain in that same number is therefore
regression to the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from explainer.attributor.units import share_in_units
from explainer.explained import Attributions, ExplainedModel, Tokens
from explainer.explanation import Explanation, Trust
from explainer.faithfulness.perturbation import keep, remove, top_k
from explainer.methods import AbstractMethod
from explainer.methods.loading import load_method
from explainer.typing import TokenMask, TokenScores

PERCENT = 20.0

Keep = Literal["mean", "fallback", "better"]


def trusts(explained: ExplainedModel, attributions: Attributions, explanations: Sequence[Explanation]) -> list[Trust]:
    """The trust in each explanation, from one pooled prediction of two shortened copies per text.

    Args:
        attributions: those that the explanations show.
    """
    shortened: list[Tokens] = []
    for text, scores in zip(attributions.texts, attributions.scores, strict=True):
        highest = top_k(scores, text.scorable, top_tokens(text.n_scorable))
        shortened += [change(text, highest, explained.baseline_token_id) for change in (remove, keep)]
    values = explained.evaluate(shortened, attributions.target.plain.repeat_interleave(2))
    numbers = (values.value if values.probability is None else values.probability).view(-1, 2).tolist()
    return [
        Trust(whole - deleted, whole - kept)
        for whole, (deleted, kept) in zip(map(_number, explanations), numbers, strict=True)
    ]


def _number(explanation: Explanation) -> float:
    """The probability of the target on the whole text; the value where there are no probabilities."""
    number = explanation.value if explanation.probability is None else explanation.probability
    assert number is not None
    return number


def top_tokens(n_scorable: int) -> int:
    """The number of tokens that count as highest: a fifth, rounded down, and at least one.

    >>> top_tokens(3), top_tokens(25)
    (1, 5)
    """
    return max(1, int(n_scorable * PERCENT / 100 + 1e-9))


def trusted(
    explained: ExplainedModel, attributions: Attributions, explanations: Sequence[Explanation]
) -> list[Explanation]:
    """The explanations with their trust."""
    measured = trusts(explained, attributions, explanations)
    return [replace(explanation, trust=trust) for explanation, trust in zip(explanations, measured, strict=True)]


@dataclass(frozen=True)
class Fallback:
    """Another method for the explanations whose faithfulness is too low.

    Args:
        method: explains those texts a second time.
        min_faithfulness: explanations below it fall back. It is a difference of probabilities, between -1 and 2; for a
            regression it is in units of the predicted value.
        keep: `mean` averages the scores of both methods, those of the second scaled to the spread of the first, and
            selects nothing; `fallback` keeps the scores of the second; `better` keeps the more faithful of the two, a
            best of 2 on the text itself, as the label then says.
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
        """The fallback of a method, which is given by name or by its settings; or a whole `Fallback`.

        Raises:
            ValueError: when there is no such method, or only one of method and threshold is given.
        """
        if given is None and min_faithfulness is None:
            return None
        if isinstance(given, Fallback):
            return given if min_faithfulness is None else replace(given, min_faithfulness=float(min_faithfulness))
        if given is None or min_faithfulness is None:
            raise ValueError(
                "`fallback` (a method) and `min_faithfulness` (explanations below it fall back) go together, got "
                f"fallback={given!r} and min_faithfulness={min_faithfulness!r}."
            )
        return cls(load_method(given), float(min_faithfulness))

    def __call__(
        self, explained: ExplainedModel, attributions: Attributions, explanations: Sequence[Explanation]
    ) -> list[Explanation]:
        """The explanations with their trust, each one below the threshold explained by the other method.

        Texts without scorable tokens stay as they are.

        Args:
            attributions: those that the explanations show.
        """
        judged = trusted(explained, attributions, explanations)
        low = [i for i, one in enumerate(judged) if _faithfulness(one) < self.min_faithfulness and any(one.scorable)]
        if not low:
            return judged
        texts, target = [attributions.texts[i] for i in low], attributions.target[low]
        other = share_in_units(self.method.attribute(explained, texts, target)).scores
        combined = [
            self._combined(attributions.scores[i], scores, attributions.texts[i].scorable)
            for i, scores in zip(low, other, strict=True)
        ]
        replaced = [
            replace(judged[i], scores=scores.tolist(), method=self._label(judged[i]))
            for i, scores in zip(low, combined, strict=True)
        ]
        for i, second in zip(low, trusted(explained, Attributions(texts, target, combined), replaced), strict=True):
            judged[i] = self._better(judged[i], second) if self.keep == "better" else second
        return judged

    def forward_equivalents(self, n_scorable: int) -> float:
        """The cost of falling back: the method, and one pass for the trust in its scores.

        Every text costs one such pass in addition, since its two copies together have as many tokens as the text.
        """
        return self.method.forward_equivalents(n_scorable) + 1.0

    def _combined(self, first: TokenScores, other: TokenScores, scorable: TokenMask) -> TokenScores:
        """The scores to show: the mean at equal spread, or the other ones.

        The mean is not of centred scores, since the sign of a score says whether the token speaks for the target.
        """
        if self.keep != "mean":
            return other
        spread, spread_of_other = (scores[scorable].std(correction=0) for scores in (first, other))
        return (first + other * torch.where(spread_of_other > 0, spread / spread_of_other, 0.0)) / 2

    def _label(self, first: Explanation) -> str:
        label = f"{self.method.label} (fallback)"
        return f"{first.method} + {label}" if self.keep == "mean" else label

    def _better(self, first: Explanation, second: Explanation) -> Explanation:
        best = max(first, second, key=_faithfulness)  # the first of equal ones
        label = first.method if best is first else self.method.label
        return replace(best, method=f"{label} (best of 2 by faithfulness at {PERCENT:g} %)")


def _faithfulness(explanation: Explanation) -> float:
    assert explanation.trust is not None
    return explanation.trust.faithfulness
