"""The AOPC of a ranking, and the lowest and highest one that any order of the text's tokens reaches.

Edin et al., Normalized AOPC, ACL 2025. With the tokens of an order replaced one after the other by the baseline token,

    AOPC(order) = 1/n * sum_{k=1..n} [p(whole text) - p(first k replaced)]

The extremes over all n! orders are looked for by beam search. What follows depends on the set replaced so far, not on
its order, so a beam holds sets, each with the best sum on a way to it: as wide as there are sets of one size, the
search is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Tokens
from explainer.faithfulness.perturbation import check_lengths, of_target, ranked
from explainer.typing import RaggedScores, Target


@dataclass(frozen=True)
class AOPCBounds:
    """The lowest and the highest AOPC of each text; they do not depend on any scores."""

    lower: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]


def ranking_aopc(
    explained: ExplainedModel, texts: Sequence[EncodedText], scores: RaggedScores, target: Target
) -> Float[Tensor, " n"]:
    """The AOPC of replacing token by token from the highest score down; NaN for texts without scorable tokens."""
    check_lengths(texts, scores)
    rows: list[Tokens] = []
    for text, score in zip(texts, scores, strict=True):
        order = ranked(score.cpu(), text.scorable).tolist()
        rows += [_replaced(text, order[:k], explained.baseline_token_id) for k in range(len(order) + 1)]
    counts = [text.n_scorable + 1 for text in texts]
    found = of_target(explained, rows, target.cpu().repeat_interleave(torch.tensor(counts)))[1]
    return torch.stack([(part[0] - part[1:]).mean() for part in found.split(counts)])


def aopc_bounds(
    explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, beam_width: int = 5
) -> AOPCBounds:
    """The extremes of `ranking_aopc` over all orders; every text takes its next step in one pooled prediction.

    About `beam_width` * n^2 forward passes of a text of n tokens.

    Args:
        beam_width: sets of replaced tokens kept at each size, for either bound.
    """
    if beam_width < 1:
        raise ValueError(f"`beam_width` must be a positive number of sets, got {beam_width}.")
    whole = of_target(explained, [text.tokens for text in texts], target.cpu())[1].tolist()
    beams = [
        _Beam(text, c, p, sign) for text, c, p in zip(texts, target.tolist(), whole, strict=True) for sign in (-1, 1)
    ]
    for _ in range(max((text.n_scorable for text in texts), default=0)):
        _advance(explained, [beam for beam in beams if not beam.complete], beam_width)
    values = torch.tensor([beam.aopc for beam in beams]).view(len(texts), 2)
    return AOPCBounds(values[:, 0], values[:, 1])


@dataclass
class _Beam:
    """One text's search in one direction: `sign` 1 looks for the highest sum of falls, -1 for the lowest.

    `sums` maps a set of replaced tokens, a bit each, to the best sum of falls of an order of them.
    """

    text: EncodedText
    target: int
    whole: float
    sign: int
    sums: dict[int, float] = field(default_factory=lambda: {0: 0.0})

    @property
    def complete(self) -> bool:
        return (1 << self.text.n_scorable) - 1 in self.sums

    @property
    def aopc(self) -> float:
        (total,) = self.sums.values()
        return total / self.text.n_scorable if self.text.n_scorable else torch.nan

    def candidates(self) -> dict[int, float]:
        """Every set with one token more, and the best sum before it."""
        found: dict[int, float] = {}
        for before, total in self.sums.items():
            for bit in range(self.text.n_scorable):
                if not before >> bit & 1:
                    after = before | 1 << bit
                    found[after] = max(found.get(after, total), total, key=lambda value: self.sign * value)
        return found

    def row(self, chosen: int, baseline: int) -> Tokens:
        places = self.text.scorable.nonzero()[:, 0].tolist()
        return _replaced(self.text, [place for bit, place in enumerate(places) if chosen >> bit & 1], baseline)

    def keep(self, sums: dict[int, float], width: int) -> None:
        self.sums = dict(sorted(sums.items(), key=lambda item: (-self.sign * item[1], item[0]))[:width])


def _advance(explained: ExplainedModel, beams: Sequence[_Beam], width: int) -> None:
    """One token more for every beam."""
    candidates = [beam.candidates() for beam in beams]
    pairs = [(beam, chosen) for beam, sets in zip(beams, candidates, strict=True) for chosen in sets]
    rows = [beam.row(chosen, explained.baseline_token_id) for beam, chosen in pairs]
    found = of_target(explained, rows, torch.tensor([beam.target for beam, _ in pairs]))[1].tolist()
    probabilities = iter(found)
    for beam, sets in zip(beams, candidates, strict=True):
        beam.keep({chosen: total + beam.whole - next(probabilities) for chosen, total in sets.items()}, width)


def _replaced(text: EncodedText, places: list[int], token_id: int) -> Tokens:
    mask = torch.zeros(len(text), dtype=torch.bool)
    mask[places] = True
    return text.tokens.replaced(mask, token_id)
