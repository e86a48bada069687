"""ContextCite: a sparse linear model of what removing random halves of the units does to the target's log-odds.

Cohen-Wang, Shah, Georgiev and Madry, ContextCite: Attributing Model Generation to Context, NeurIPS 2024. With masks
z_m in {0, 1}^n, each unit kept with probability 1/2, and p_m the probability of the whole target (of a response, the
product over its T tokens) when the other units are deleted:

    v_m = ln p_m / (1 - p_m)
    phi = argmin min_b 1 / (2 M) sum_m (v_m / T - b - z_m . phi / T)^2 + alpha sum_j sd_j |phi_j| / T

sd_j is the standard deviation of z_mj over the masks, so this is the LASSO on standardised masks, scaled back. That is
the authors' own solver, with their alpha. Where the model has no probabilities (a regression) v_m is the predicted
value; with a foil, the foil's log-odds are subtracted.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.explained.readout import NO_QUESTION
from explainer.faithfulness.perturbation import units_away
from explainer.methods.base import AbstractTextMethod, from_units
from explainer.methods.random import generator_of
from explainer.typing import RaggedScores


@dataclass(frozen=True)
class ContextCite(AbstractTextMethod):
    """Coefficients of the LASSO that predicts the target's log-odds from the units that are kept.

    The log-odds are fitted whatever the target's score.

    Args:
        n_ablations: random masks per text, of one forward pass each. The paper has 32 and 256, the authors' package 64.
        alpha: strength of the L1 penalty, on log-odds per token of the target.
        seed: of the masks; the same text gets the same masks in any batch.

    Raises:
        ValueError: when `n_ablations` or `alpha` is not positive.
    """

    name: ClassVar[str] = "context_cite"
    operator: ClassVar[str | None] = "delete"
    n_ablations: int = 32
    alpha: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for setting in ("n_ablations", "alpha"):
            if not getattr(self, setting) > 0:
                raise ValueError(f"`{setting}` of context_cite must be positive, got {getattr(self, setting)!r}.")

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        masks = [self.masks(text) for text in texts]
        variants = [
            text.tokens.deleted(taken, explained.baseline_token_id)
            for text, kept in zip(texts, masks, strict=True)
            for taken in units_away(kept, text.unit_masks, len(text))
        ]
        asked = replace(target, score="log_odds").repeat_interleave(self.n_ablations)
        log_odds = explained.evaluate(variants, asked).objective.view(len(texts), self.n_ablations)
        n_asked = (target.choices != NO_QUESTION).sum(dim=1).tolist()
        of_units = [self._fit(*of_text) for of_text in zip(masks, log_odds, n_asked, strict=True)]
        return [from_units(text, text.unit_masks, scores) for text, scores in zip(texts, of_units, strict=True)]

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(self.n_ablations)

    def masks(self, text: EncodedText) -> Bool[Tensor, "ablations units"]:
        """The units that each ablation keeps."""
        shape = (self.n_ablations, len(text.unit_masks))
        return torch.rand(shape, generator=generator_of(text.tokens, self.seed)) < 0.5

    def _fit(self, kept: Bool[Tensor, "ablations units"], log_odds: Tensor, n_asked: int) -> Tensor:
        """One score per unit."""
        z, v = kept.double().numpy(), log_odds.double().numpy() / n_asked
        deviation = z.std(axis=0)
        deviation[deviation == 0] = 1.0  # such a unit is in all masks or in none, and gets 0
        return torch.from_numpy(n_asked * lasso((z - z.mean(axis=0)) / deviation, v - v.mean(), self.alpha) / deviation)


ROUNDS = 200
"""Rounds of coordinate descent at each strength, at most; a column that is nearly the sum of others takes many."""


def lasso(
    x: Float[np.ndarray, "rows columns"], y: Float[np.ndarray, " rows"], alpha: float
) -> Float[np.ndarray, " columns"]:
    """argmin_w |y - x w|^2 / (2 rows) + alpha |w|_1.

    By coordinate descent at falling strengths, each started from the weights of the one before. At the minimum
    x_j . (y - x w) / rows is the strength times the sign of w_j, and where w_j is 0 no larger than the strength.
    """
    rows, weights = len(x), np.zeros(x.shape[1])
    squares = (x**2).sum(axis=0) / rows
    strongest = float(np.abs(x.T @ y).max(initial=0.0)) / rows  # all weights are 0 from here up
    if strongest <= alpha:
        return weights
    rounding = 1e-6 * alpha + 1e-13 * strongest
    halvings = 1 + math.ceil(math.log2(strongest / alpha))
    for strength in np.geomspace(strongest, alpha, halvings + 1)[1:]:
        for _ in range(ROUNDS):
            residual = y - x @ weights
            pull, used = x.T @ residual / rows, weights != 0
            off = np.where(used, np.abs(pull - strength * np.sign(weights)), np.abs(pull) - strength)
            if off.max() <= rounding:
                break
            # The columns in use, and those that are farthest from staying out.
            others = np.argsort(np.where(used, -np.inf, off))[-8:]
            columns = np.flatnonzero(used | np.isin(np.arange(len(used)), others[off[others] > rounding]))
            for j in np.tile(columns, 10):
                through = x[:, j] @ residual / rows + squares[j] * weights[j]
                updated = np.sign(through) * max(abs(through) - strength, 0.0) / squares[j]
                residual -= (updated - weights[j]) * x[:, j]
                weights[j] = updated
            _settle(x, y, weights, strength)
    return weights


def _settle(x: np.ndarray, y: np.ndarray, weights: np.ndarray, strength: float) -> None:
    """Put the weights, in place, at the minimum if it uses these columns with these signs: a linear equation."""
    used = np.flatnonzero(weights)
    own, signs = x[:, used], np.sign(weights[used])
    with suppress(np.linalg.LinAlgError):
        solved = np.linalg.solve(own.T @ own, own.T @ y - len(x) * strength * signs)
        if (solved * signs > 0).all():
            weights[used] = solved
