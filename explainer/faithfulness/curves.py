"""Perturbation curves: the model's answer while more and more of a text's tokens are taken out by rank."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float

from explainer.explained import Attributions, EncodedText, ExplainedModel, Tokens
from explainer.faithfulness.perturbation import Operator as Operator
from explainer.faithfulness.perturbation import mask_of, perturb, ranked
from explainer.typing import TokenScores

Which = Literal["top", "rest", "bottom"]
"""The tokens that are taken out: those of the highest scores, all but those of the highest scores (so that these are
kept), or those of the lowest scores."""


@dataclass(frozen=True)
class Perturbation:
    """An operator and the tokens it is applied to.

    >>> print(Perturbation("delete", "rest"))
    delete-rest
    """

    operator: Operator
    which: Which

    def __str__(self) -> str:
        return f"{self.operator}-{self.which}"


DELETE_TOP = Perturbation("delete", "top")
DELETE_REST = Perturbation("delete", "rest")
REPLACE_TOP = Perturbation("replace", "top")
BLANK_TOP = Perturbation("blank", "top")
BLANK_BOTTOM = Perturbation("blank", "bottom")

Percents = tuple[float, ...]

Plan = Mapping[Perturbation, Percents]
"""The percents of the tokens at which each perturbation is wanted."""

PERCENTS: Percents = (1.0, 5.0, 10.0, 20.0, 50.0)
PLAN: Plan = {DELETE_TOP: PERCENTS, DELETE_REST: PERCENTS, REPLACE_TOP: PERCENTS}


def joined(plans: Iterable[Plan]) -> Plan:
    """The plan that has every percent of all of them, each once."""
    percents: dict[Perturbation, set[float]] = {}
    for plan in plans:
        for perturbation, wanted in plan.items():
            percents.setdefault(perturbation, set()).update(wanted)
    return {perturbation: tuple(sorted(wanted)) for perturbation, wanted in percents.items()}


@dataclass(frozen=True)
class Curves:
    """The target's value and probability under perturbation by rank: what faithfulness metrics are computed from.

    Column 0 is the whole text. The points of the plan follow, perturbation by perturbation, each with the
    k = floor(tokens * percent / 100) highest (or lowest) tokens. Where k = 0 nothing is perturbed, and the numbers are
    those of the whole text.

    Attributes:
        plan: the points of the curves.
        values: the sum of the target's logits.
        probabilities: the target's; None where the task has none (a regression).
    """

    plan: Plan
    values: Float[torch.Tensor, "n points"]
    probabilities: Float[torch.Tensor, "n points"] | None

    @property
    def whole_value(self) -> Float[torch.Tensor, " n"]:
        """Values of the whole texts."""
        return self.values[:, 0]

    @property
    def whole_probability(self) -> Float[torch.Tensor, " n"]:
        """Probabilities of the whole texts.

        Raises:
            ValueError: when the task has no probabilities.
        """
        return self._probabilities[:, 0]

    def value(self, perturbation: Perturbation, percents: Percents | None = None) -> Float[torch.Tensor, "n percents"]:
        """Values under one perturbation, by default at all its percents of the plan.

        Raises:
            ValueError: when the plan has no such point.
        """
        return self.values[:, self._columns(perturbation, percents)]

    def probability(
        self, perturbation: Perturbation, percents: Percents | None = None
    ) -> Float[torch.Tensor, "n percents"]:
        """Probabilities under one perturbation, by default at all its percents of the plan.

        Raises:
            ValueError: when the plan has no such point, or the task no probabilities.
        """
        return self._probabilities[:, self._columns(perturbation, percents)]

    @property
    def _probabilities(self) -> Float[torch.Tensor, "n points"]:
        if self.probabilities is None:
            raise ValueError("These curves have no probabilities, since the model predicts values: read `value`.")
        return self.probabilities

    def _columns(self, perturbation: Perturbation, percents: Percents | None) -> list[int]:
        planned = self.plan.get(perturbation, ())
        wanted = planned if percents is None else percents
        if missing := [percent for percent in wanted if percent not in planned]:
            raise ValueError(f"`percents` of {perturbation} must be of {planned}, got {missing}.")
        return [self._column_of[perturbation, percent] for percent in wanted]

    @cached_property
    def _column_of(self) -> dict[tuple[Perturbation, float], int]:
        points = [(perturbation, percent) for perturbation, percents in self.plan.items() for percent in percents]
        return {point: column for column, point in enumerate(points, start=1)}


def curves(explained: ExplainedModel, attributions: Attributions, plan: Plan = PLAN) -> Curves:
    """Run every text under every perturbation of the plan through the explained model, in one pooled prediction.

    Raises:
        ValueError: when scores hold NaN.
    """
    sequences: list[Tokens] = []
    for text, scores in zip(attributions.texts, attributions.scores, strict=True):
        sequences += [text.tokens, *_perturbed(text, scores, plan, explained.baseline_token_id)]
    points = 1 + sum(len(percents) for percents in plan.values())
    answers = explained.evaluate(sequences, attributions.target.repeat_interleave(points))
    shape, probability = (len(attributions), points), answers.probability
    return Curves(plan, answers.value.view(shape), None if probability is None else probability.view(shape))


def _perturbed(text: EncodedText, scores: TokenScores, plan: Plan, baseline_token_id: int) -> list[Tokens]:
    """The text at every point of the plan."""
    highest, lowest = ranked(scores, text.scorable), ranked(-scores, text.scorable)
    sequences: list[Tokens] = []
    for perturbation, percents in plan.items():
        order = lowest if perturbation.which == "bottom" else highest
        for percent in percents:
            k = top_count(text.n_scorable, percent)
            chosen = mask_of(order[:k], len(text))
            taken = ~chosen if perturbation.which == "rest" else chosen
            sequences.append(perturb(text, taken, perturbation.operator, baseline_token_id) if k else text.tokens)
    return sequences


def top_count(n: int, percent: float) -> int:
    """floor(n * percent / 100), with room for rounding: 5/9 in percent of 9 tokens are 5.

    Args:
        n: scorable tokens of the text.
    """
    return int(n * percent / 100 + 1e-9)
