"""Subset regression: delete random subsets of tokens for real, and fit the additive scores that explain the changes.

The least-squares view of Shapley values (Lundberg and Lee, KernelSHAP, 2017) and of datamodels (Ilyas et al. 2022),
with the subsets drawn as the faithfulness metrics perturb: k = 5, 10, 20 or 50 % of the tokens, deleted or kept
alone. For subsets z_m in {0, 1}^n with values v_m = ln p_c / (1 - p_c), centred within subsets of equal size,

    phi = prior + argmin_d sum_m (v_m - z_m . (prior + d))^2 + ridge |d|^2.

A prior in the direction of a cheap method's scores (AttnLRP, one backward pass) saves two thirds of the samples.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.methods.base import AbstractMethod, scorable_only
from explainer.methods.lrp.attn_lrp import AttnLRP
from explainer.methods.random import generator_of
from explainer.typing import Scores, Target


@dataclass(frozen=True, eq=False)
class SubsetEffects:
    """Of one text: additive scores phi (tokens,) say that the log-odds change by `design @ phi`; they did by `value`.

    Both are centred within subsets of equal size.
    """

    design: Float[Tensor, "rows tokens"]
    value: Float[Tensor, " rows"]


@dataclass(frozen=True)
class SubsetRegression(AbstractMethod):
    """Additive effect of each token on the target's log-odds, over subsets like those of the metrics.

    Args:
        n_subsets: random subsets a text; each is deleted once and kept alone once, so 2 forward passes a subset.
        ridge: strength of the pull to the prior, in units of the design's squared entries.
        prior: whether AttnLRP's scores, scaled to fit, are what the regression is pulled to (else zero).
        percents: sizes of the subsets, taken in turn.
        seed: of the subsets; the same text gets the same subsets in any batch.
    """

    name: ClassVar[str] = "subset_regression"
    n_subsets: int = 32
    ridge: float = 16.0
    prior: bool = True
    percents: tuple[float, ...] = (5.0, 10.0, 20.0, 50.0)
    seed: int = 0

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        scores = torch.zeros(batch.input_ids.shape)
        prior = AttnLRP()(explained, batch, target).cpu() if self.prior else scores.clone()
        real = batch.attention_mask.bool().cpu()
        for i, effects in enumerate(self.effects(explained, batch, target)):
            scores[i, real[i]] = self._fit(effects, prior[i, real[i]].double()).float()
        return scorable_only(scores.to(batch.device), batch)

    def effects(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> list[SubsetEffects]:
        """What deleting, and keeping alone, each text's subsets really does; on the CPU."""
        cpu = batch.to("cpu")
        rows, scorable = cpu.rows(), cpu.split(cpu.scorable)
        subsets = [self._subsets(row, mask) for row, mask in zip(rows, scorable, strict=True)]
        variants = [
            row.select(choice)
            for row, mask, chosen in zip(rows, scorable, subsets, strict=True)
            for subset in chosen
            for choice in (~subset, subset | ~mask)
        ]
        value = _log_odds(explained, variants, target.cpu().repeat_interleave(2 * self.n_subsets))
        values = value.view(len(rows), self.n_subsets, 2).double()
        sizes = [self._sizes(int(mask.sum())) for mask in scorable]
        return [_centred(chosen.double(), *rest) for chosen, *rest in zip(subsets, values, sizes, strict=True)]

    def forward_equivalents(self, n_scorable: int) -> float:
        return 2.0 * self.n_subsets + (3.0 if self.prior else 0.0)

    def _sizes(self, n: int) -> list[int]:
        return [max(1, int(n * percent / 100)) for percent in self.percents]

    def _subsets(self, row: Tokens, scorable: Tensor) -> Tensor:
        """Random subsets (subsets, tokens) of the scorable tokens, their sizes in turn."""
        order = torch.rand(self.n_subsets, len(row), generator=generator_of(row, self.seed))
        rank = order.masked_fill(~scorable, 2.0).argsort(dim=1).argsort(dim=1)
        sizes = torch.tensor(self._sizes(int(scorable.sum())))
        k = sizes[torch.arange(self.n_subsets) % len(sizes)]
        return (rank < k[:, None]) & scorable

    def _fit(self, effects: SubsetEffects, prior: Tensor) -> Tensor:
        """The regression for one text, from the prior (tokens,); tokens that no subset has stay 0."""
        z, v = effects.design, effects.value
        along = z @ prior
        fit = (along @ v / (along @ along).clamp(min=1e-12)).clamp(min=0)
        normal = z.T @ z + self.ridge * torch.eye(z.shape[1], dtype=z.dtype)
        return fit * prior + torch.linalg.solve(normal, z.T @ (v - fit * along))


def _centred(subsets: Tensor, value: Tensor, sizes: list[int]) -> SubsetEffects:
    """From subsets (subsets, tokens) and the log-odds (subsets, 2) when each is deleted, and when it is kept alone."""
    group = torch.tensor(sizes)[torch.arange(len(subsets)) % len(sizes)]
    z, v = _centred_within(subsets, group), _centred_within(value, group)
    # Deleting a subset loses its scores, keeping it alone gains them.
    return SubsetEffects(torch.cat([-z, z]), torch.cat([v[:, 0], v[:, 1]]))


def _centred_within(values: Tensor, group: Tensor) -> Tensor:
    """Rows less the mean of their group: what a subset's size alone does is no token's merit."""
    same = (group[:, None] == group).to(values.dtype)
    return values - same @ values / same.sum(dim=1, keepdim=True)


def _log_odds(explained: ExplainedModel, rows: list[Tokens], target: Tensor) -> Tensor:
    """ln p_c / (1 - p_c), one a row: for two classes the difference of the logits."""
    logits = explained.predict(rows)
    mine = torch.nn.functional.one_hot(target, logits.shape[1]).bool()
    return logits[mine] - logits.masked_fill(mine, -torch.inf).logsumexp(dim=1)
