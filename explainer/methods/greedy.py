"""Greedy deletion and greedy keeping: orders of the units that ask the explained model at every step.

They come close to the best that any ranking could reach: greedy deletion for comprehensiveness, greedy keeping for
sufficiency. They read the very predictions that the metrics read, so they are bounds, not explanations.

    deletion:  d_t = argmin_j p_c(x without d_1 ... d_{t-1}, j)
    keeping:   k_t = argmax_j p_c(the specials with k_1 ... k_{t-1}, j)

A unit is a token unless the text groups its tokens. Where the model has no probabilities (a regression) the predicted
value takes the place of p_c.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target, Tokens
from explainer.methods.base import AbstractTextMethod, from_units
from explainer.typing import RaggedScores, TokenScores


class _Search:
    """The search for one text: the units taken, in their order, and the next step's candidates."""

    def __init__(self, text: EncodedText, deleting: bool, percent: float, baseline_token_id: int) -> None:
        self.text = text
        self.baseline_token_id = baseline_token_id
        self.units = text.unit_masks
        self.deleting = deleting
        self.free = list(range(len(self.units)))
        self.steps = max(int(len(self.free) * percent / 100), 1) if self.free else 0
        self.taken: list[int] = []
        self.taken_tokens = torch.zeros_like(text.scorable)

    @property
    def candidates(self) -> list[Tokens]:
        """The text after taking each free unit; none once the search is done."""
        return [self._after(j) for j in self.free] if len(self.taken) < self.steps else []

    def _after(self, j: int) -> Tokens:
        chosen = self.taken_tokens | self.units[j]
        away = chosen if self.deleting else ~chosen & self.text.scorable
        return self.text.tokens.deleted(away, self.baseline_token_id)

    def take(self, values: Tensor) -> None:
        """Take the best of the free units, sorted by their candidates' values (free,); equal ones stay in order."""
        order = values.argsort(stable=True, descending=not self.deleting).tolist()
        self.free = [self.free[k] for k in order]
        self.taken.append(self.free.pop(0))
        self.taken_tokens = self.taken_tokens | self.units[self.taken[-1]]
        if len(self.taken) < self.steps:
            self.free.sort()

    @property
    def scores(self) -> TokenScores:
        """Ranks of the units: n for the first one taken, down to 1."""
        ranks = torch.zeros(len(self.units))
        ranks[[*self.taken, *self.free]] = torch.arange(len(self.units), 0, -1).float()
        return from_units(self.text, self.units, ranks)


@dataclass(frozen=True)
class _Greedy(AbstractTextMethod):
    """A search, by deleting or by keeping."""

    is_bound: ClassVar[bool] = True
    percent: float = 50.0
    deleting: ClassVar[bool]

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        searches = [_Search(text, self.deleting, self.percent, explained.baseline_token_id) for text in texts]
        target = replace(target, score="logit" if explained.task.link == "identity" else "log_prob")
        # All texts advance one step together, through one pooled prediction.
        while any(candidates := [search.candidates for search in searches]):
            counts = torch.tensor([len(sequences) for sequences in candidates])
            pooled = [tokens for sequences in candidates for tokens in sequences]
            values = explained.evaluate(pooled, target.repeat_interleave(counts)).objective
            for search, own in zip(searches, values.split(counts.tolist()), strict=True):
                if len(own):
                    search.take(own)
        return [search.scores for search in searches]

    def forward_equivalents(self, n_scorable: int) -> float:
        """About 3/8 n^2 at 50 %: step t has n - t candidates; each counts as a whole text, though it is shorter."""
        steps = max(int(n_scorable * self.percent / 100), 1)
        return float(n_scorable * steps - steps * (steps - 1) // 2)


@dataclass(frozen=True)
class GreedyDeletion(_Greedy):
    """The order in which deleting the next unit lowers the target's probability most, as ranks: n, n - 1, ... 1.

    The search asks for the log-probability, less that of the foil, whatever the target's score.

    Args:
        percent: share of the units that is searched step by step; the rest keeps the order of the last step.
    """

    name: ClassVar[str] = "greedy_deletion"
    operator: ClassVar[str | None] = "delete"
    deleting: ClassVar[bool] = True


@dataclass(frozen=True)
class GreedyKeeping(_Greedy):
    """The order in which adding the next unit to the bare specials raises the target's probability most, as ranks.

    The search asks for the log-probability, less that of the foil, whatever the target's score.

    Args:
        percent: share of the units that is searched step by step; the rest keeps the order of the last step.
    """

    name: ClassVar[str] = "greedy_keeping"
    operator: ClassVar[str | None] = "delete"
    deleting: ClassVar[bool] = False
