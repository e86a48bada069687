"""Greedy deletion and greedy keeping: orders of the tokens that ask the explained model at every step.

What any ranking could reach at most, nearly: greedy deletion for comprehensiveness, greedy keeping for sufficiency.
They read the very predictions that the metrics read, so they are bounds, not explanations.

    deletion:  d_t = argmin_j p_c(x without d_1 ... d_{t-1}, j)
    keeping:   k_t = argmax_j p_c(the specials with k_1 ... k_{t-1}, j)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.methods.base import AbstractMethod, logit_of, scorable_only
from explainer.typing import Scores, Target, TokenMask


class _Search:
    """The search for one text: which tokens were taken, in which order, and what the next step's candidates are."""

    def __init__(self, row: Tokens, scorable: TokenMask, deleting: bool, percent: float) -> None:
        self.row = row
        self.scorable = scorable
        self.deleting = deleting
        self.free = scorable.nonzero()[:, 0].tolist()
        self.steps = max(int(len(self.free) * percent / 100), 1) if self.free else 0
        self.taken: list[int] = []

    @property
    def candidates(self) -> list[Tokens]:
        """The text after taking each free token; none once the search is done."""
        return [self._after(j) for j in self.free] if len(self.taken) < self.steps else []

    def _after(self, j: int) -> Tokens:
        chosen = torch.zeros_like(self.scorable)
        chosen[[*self.taken, j]] = True
        return self.row.select(~chosen if self.deleting else chosen | ~self.scorable)

    def take(self, value: Tensor) -> None:
        """Take the best of the free tokens, sorted by the candidates' values (free,); equal ones stay in order."""
        order = value.argsort(stable=True, descending=not self.deleting).tolist()
        self.free = [self.free[k] for k in order]
        self.taken.append(self.free.pop(0))
        if len(self.taken) < self.steps:
            self.free.sort()

    @property
    def scores(self) -> Tensor:
        """Ranks (tokens,): n for the first token taken, down to 1."""
        scores = torch.zeros(len(self.row))
        order = [*self.taken, *self.free]
        scores[order] = torch.arange(len(order), 0, -1).float()
        return scores


@dataclass(frozen=True)
class _Greedy(AbstractMethod):
    percent: float = 50.0
    deleting: ClassVar[bool]

    @property
    def label(self) -> str:
        return f"{self.name} (bound)"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        cpu = batch.to("cpu")
        texts = zip(cpu.rows(), cpu.split(cpu.scorable), strict=True)
        searches = [_Search(row, mask, self.deleting, self.percent) for row, mask in texts]
        classes = target.cpu()
        # All texts advance one step together, through one pooled prediction.
        while any(candidates := [search.candidates for search in searches]):
            sizes = torch.tensor([len(rows) for rows in candidates])
            logits = explained.predict([row for rows in candidates for row in rows])
            values = logit_of(logits.log_softmax(dim=-1), classes.repeat_interleave(sizes)).split(sizes.tolist())
            for search, value in zip(searches, values, strict=True):
                if len(value):
                    search.take(value)
        scores = torch.zeros(batch.input_ids.shape)
        scores[cpu.attention_mask.bool()] = torch.cat([search.scores for search in searches])
        return scorable_only(scores.to(batch.device), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        """About 3/8 n^2 at 50 %: step t has n - t candidates; each counts as a whole text, though it is shorter."""
        steps = max(int(n_scorable * self.percent / 100), 1)
        return float(n_scorable * steps - steps * (steps - 1) // 2)


@dataclass(frozen=True)
class GreedyDeletion(_Greedy):
    """The order in which deleting the next token lowers the target's probability most, as ranks: n, n - 1, ... 1.

    Args:
        percent: share of the tokens that is searched step by step; the rest keeps the order of the last step.
    """

    name: ClassVar[str] = "greedy_deletion"
    deleting: ClassVar[bool] = True


@dataclass(frozen=True)
class GreedyKeeping(_Greedy):
    """The order in which adding the next token to the bare specials raises the target's probability most, as ranks.

    Args:
        percent: share of the tokens that is searched step by step; the rest keeps the order of the last step.
    """

    name: ClassVar[str] = "greedy_keeping"
    deleting: ClassVar[bool] = False
