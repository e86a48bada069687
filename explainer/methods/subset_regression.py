"""Subset regression: take random subsets of units out for real, and fit the additive scores that explain the changes.

The least-squares view of Shapley values (Lundberg and Lee, KernelSHAP, 2017) and of datamodels (Ilyas et al. 2022),
with the subsets drawn as the faithfulness metrics perturb: k = 5, 10, 20 or 50 % of the units, taken out or kept
alone. For subsets z_m in {0, 1}^n with values v_m = ln p_c / (1 - p_c), centred within subsets of equal size,

    phi = prior + argmin_d sum_m (v_m - z_m . (prior + d))^2 + ridge |d|^2.

A prior in the direction of a cheap method's scores (AttnLRP, one backward pass) saves two thirds of the samples.
Metrics perturb the highest tokens, not random ones. With several rounds the later subsets are drawn near those: the k
highest of the scores fitted so far plus noise, so that the fit is closest where it is asked. A unit is a token unless
the text groups its tokens. Where the model has no probabilities (a regression) v_m is the predicted value; with a foil,
the foil's log-odds are subtracted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.faithfulness.perturbation import Operator, check_operator, perturb
from explainer.methods.base import AbstractTextMethod, from_units
from explainer.methods.lrp.attn_lrp import AttnLRP
from explainer.methods.random import generator_of
from explainer.typing import RaggedScores, TokenIds, TokenMask, TokenScores


@dataclass(frozen=True, eq=False)
class SubsetEffects:
    """The measured effects of one text's subsets: additive scores phi (tokens,) predict `value` by `design @ phi`.

    Both are centred within subsets of equal size.

    Attributes:
        design: the tokens that each perturbation adds (1) or takes away (-1).
        value: the change of the log-odds.
    """

    design: Float[Tensor, "rows tokens"]
    value: Float[Tensor, " rows"]


@dataclass(frozen=True)
class SubsetRegression(AbstractTextMethod):
    """Additive effect of each unit on the target's log-odds, over subsets like those of the metrics.

    The log-odds are fitted whatever the target's score; the prior explains the target as it is.

    Args:
        n_subsets: random subsets per text; each is taken out once and kept alone once, so 2 forward passes per subset.
        ridge: strength of the pull to the prior, in units of the design's squared entries.
        prior: whether AttnLRP's scores, scaled to fit, are what the regression is pulled to (else zero).
        percents: sizes of the subsets, taken in turn.
        rounds: the subsets are drawn in as many parts. The first is uniform; each later one has the highest units of
            the scores so far, in standard deviations, plus Gumbel noise of scale `temperature`.
        temperature: of that noise.
        seed: of the subsets; the same text gets the same subsets in any batch.
        operator: how units are taken out: `delete`, `replace`, `blank` or `hide`. Take that of the metric that counts.

    Raises:
        ValueError: when there are fewer subsets than rounds, no round, no such operator, or the temperature is negative
            or infinite.
    """

    name: ClassVar[str] = "subset_regression"
    n_subsets: int = 32
    ridge: float = 16.0
    prior: bool = True
    percents: tuple[float, ...] = (5.0, 10.0, 20.0, 50.0)
    rounds: int = 1
    temperature: float = 0.3
    seed: int = 0
    # A class variable of the base, which would make it the first of the positional arguments.
    operator: Operator = field(default="delete", kw_only=True)  # type: ignore[misc]

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= self.n_subsets:
            raise ValueError(f"`rounds` must be from 1 to n_subsets ({self.n_subsets}), got {self.rounds}.")
        check_operator(self.operator)
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"`temperature` must be a number from 0 on, got {self.temperature}.")

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        priors: RaggedScores = [torch.zeros(len(text)) for text in texts]
        if self.prior:
            priors = AttnLRP().attribute(explained, texts, target).scores
        draws = [generator_of(text.tokens, self.seed) for text in texts]
        fitted: RaggedScores = []
        subsets = [torch.zeros(0, len(text), dtype=torch.bool) for text in texts]
        log_odds = torch.zeros(len(texts), 0, 2, dtype=torch.float64)
        for places in torch.arange(self.n_subsets).tensor_split(self.rounds):
            near: list[Tensor | None] = [*fitted] or [None] * len(texts)
            new = [self._subsets(*of_text, places) for of_text in zip(texts, draws, near, strict=True)]
            subsets = [torch.cat(both) for both in zip(subsets, new, strict=True)]
            log_odds = torch.cat([log_odds, self._log_odds(explained, texts, target, new)], dim=1)
            effects = map(self._effects, texts, subsets, log_odds)
            fitted = [self._fit(*of_text) for of_text in zip(texts, effects, priors, strict=True)]
        return [
            from_units(text, text.unit_masks, phi[_first_tokens(text)[1]])
            for text, phi in zip(texts, fitted, strict=True)
        ]

    def effects(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> list[SubsetEffects]:
        """The effects of taking uniform subsets of each text out, or keeping them alone, in one pooled prediction."""
        subsets = [self._uniform(text) for text in texts]
        return list(map(self._effects, texts, subsets, self._log_odds(explained, texts, target, subsets)))

    def forward_equivalents(self, n_scorable: int) -> float:
        return 2.0 * self.n_subsets + (3.0 if self.prior else 0.0)

    def _sizes(self, n: int) -> list[int]:
        return [max(1, int(n * percent / 100)) for percent in self.percents]

    def _uniform(self, text: EncodedText) -> Bool[Tensor, "subsets tokens"]:
        return self._subsets(text, generator_of(text.tokens, self.seed), None, torch.arange(self.n_subsets))

    def _subsets(
        self, text: EncodedText, generator: torch.Generator, near: Tensor | None, places: Int64[Tensor, " subsets"]
    ) -> Bool[Tensor, "subsets tokens"]:
        """Subsets of the units, their sizes in turn: random ones, or the highest of scores with noise.

        Args:
            near: these scores, at the first token of each unit.
            places: of the subsets among all.
        """
        first, leads = _first_tokens(text)
        order = torch.rand(len(places), len(text), generator=generator)
        if near is not None and leads.any():
            gumbel = -(-order.double().clamp(min=1e-12).log()).log()
            spread = near[leads].std(correction=0).clamp(min=1e-12)
            order = -(near / spread + self.temperature * gumbel)
        rank = order.masked_fill(~leads, math.inf).argsort(dim=1).argsort(dim=1)
        sizes = torch.tensor(self._sizes(int(leads.sum())))
        k = sizes[places % len(sizes)]
        return ((rank < k[:, None]) & leads)[:, first]

    def _log_odds(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, subsets: Sequence[Tensor]
    ) -> Float[Tensor, "texts subsets 2"]:
        """When each subset is taken out, and when it is kept alone, all in one pooled prediction."""
        variants = [
            perturb(text, away, self.operator, explained.baseline_token_id)
            for text, chosen in zip(texts, subsets, strict=True)
            for subset in chosen
            for away in (subset, ~subset)
        ]
        n = len(subsets[0])
        asked = replace(target, score="log_odds").repeat_interleave(2 * n)
        return explained.evaluate(variants, asked).objective.view(len(texts), n, 2).double()

    def _effects(self, text: EncodedText, subsets: Tensor, log_odds: Tensor) -> SubsetEffects:
        """From the log-odds when each subset is taken out, and when it is kept alone."""
        sizes = torch.tensor(self._sizes(len(text.unit_masks)))
        group = sizes[torch.arange(len(subsets)) % len(sizes)]
        z, v = _centred_within(subsets.double(), group), _centred_within(log_odds, group)
        # Taking a subset out loses its scores, keeping it alone gains them.
        return SubsetEffects(torch.cat([-z, z]), torch.cat([v[:, 0], v[:, 1]]))

    def _fit(self, text: EncodedText, effects: SubsetEffects, prior: TokenScores) -> Float[Tensor, " tokens"]:
        """The regression for one text, at the first token of each unit; one that no subset contains keeps its prior."""
        first, leads = _first_tokens(text)
        # Each unit is one feature, at its first token: the columns of its other tokens would only repeat it.
        start = torch.zeros(len(text), dtype=torch.float64).index_add(0, first, prior.double())
        z, v = effects.design * leads, effects.value
        along = z @ start
        fit = (along @ v / (along @ along).clamp(min=1e-12)).clamp(min=0)
        normal = z.T @ z + self.ridge * torch.eye(z.shape[1], dtype=z.dtype)
        return fit * start + torch.linalg.solve(normal, z.T @ (v - fit * along))


def _first_tokens(text: EncodedText) -> tuple[TokenIds, TokenMask]:
    """The first token of the unit that each token belongs to, and a mask of these first tokens."""
    first, leads = torch.arange(len(text)), torch.zeros(len(text), dtype=torch.bool)
    for unit in text.unit_masks:
        first[unit] = first[unit][0].clone()
        leads[first[unit]] = True
    return first, leads


def _centred_within(values: Tensor, group: Tensor) -> Tensor:
    """Rows less the mean of their group: the effect of a subset's size alone is no token's merit."""
    same = (group[:, None] == group).to(values.dtype)
    return values - same @ values / same.sum(dim=1, keepdim=True)
