"""Perturbing texts by scores: keep, remove, replace and blank tokens; blend their embeddings with the baseline's."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, TokenBatch, Tokens
from explainer.typing import Embeddings, RaggedScores, Target, TokenMask, TokenScores


def ranked(scores: TokenScores, scorable: TokenMask) -> Int64[Tensor, " ranks"]:
    """The positions of the scorable tokens, the highest score first; ties go to the earlier position.

    Raises:
        ValueError: when a scorable token's score is not a number.
    """
    if torch.isnan(scores[scorable]).any():
        raise ValueError("`scores` holds NaN: these attributions rank nothing.")
    places = scorable.nonzero()[:, 0]
    return places[scores[places].argsort(descending=True, stable=True)]


def top_k(scores: TokenScores, scorable: TokenMask, k: int) -> TokenMask:
    """The `k` scorable tokens of the highest scores; ties go to the earlier position.

    Raises:
        ValueError: when a scorable token's score is not a number.
    """
    return _first(ranked(scores, scorable), k, len(scorable))


def _first(order: Int64[Tensor, " ranks"], k: int, length: int) -> TokenMask:
    chosen = torch.zeros(length, dtype=torch.bool, device=order.device)
    chosen[order[:k]] = True
    return chosen


def remove(text: EncodedText, mask: TokenMask) -> Tokens:
    """The text with the masked scorable tokens deleted; positions renumber, specials stay."""
    return text.tokens.select(~(mask & text.scorable))


def keep(text: EncodedText, mask: TokenMask) -> Tokens:
    """The text with all scorable tokens but the masked ones deleted."""
    return text.tokens.select(mask | ~text.scorable)


def replace(text: EncodedText, mask: TokenMask, token_id: int) -> Tokens:
    """The text with the masked scorable tokens replaced by one token."""
    return text.tokens.replaced(mask & text.scorable, token_id)


def blank(text: EncodedText, mask: TokenMask) -> Tokens:
    """The text with the word embeddings of the masked scorable tokens set to zero."""
    return text.tokens.blanked(mask & text.scorable)


def blend(
    batch: TokenBatch, amounts: Float[Tensor, "batch seq"], baseline: Float[Tensor, " hidden"]
) -> Callable[[Embeddings], Embeddings]:
    """The embedding edit keep(a)_i = e_r + a_i (e_i - e_r); tokens that are not scorable are kept whole.

    AML (EMNLP Findings 2024), section 3. Pass the result to `ExplainedModel.forward(batch, edit=...)`.
    """
    whole = torch.where(batch.scorable, amounts, 1.0)[..., None]

    def edit(embeddings: Embeddings) -> Embeddings:
        return baseline + whole.to(embeddings.dtype) * (embeddings - baseline)

    return edit


Kind = Literal["removed", "kept", "replaced", "blanked", "blanked_least"]
"""What is done to a text's top tokens: they are deleted, or alone kept beside the specials, or replaced by the baseline
token, or given the zero embedding; `blanked_least` gives that to the tokens of the lowest scores."""

Plan = Mapping[Kind, tuple[float, ...]]
"""The percents of the tokens at which each kind of perturbation is wanted."""

PERCENTS = (1.0, 5.0, 10.0, 20.0, 50.0)
PLAN: Plan = {"removed": PERCENTS, "kept": PERCENTS, "replaced": PERCENTS}


def joined(plans: Iterable[Plan]) -> Plan:
    """The plan that has every percent of all of them, each once."""
    percents: dict[Kind, set[float]] = {}
    for plan in plans:
        for kind, wanted in plan.items():
            percents.setdefault(kind, set()).update(wanted)
    return {kind: tuple(sorted(found)) for kind, found in percents.items()}


@dataclass(frozen=True)
class Curves:
    """The target's logit and probability under perturbation by rank: what every faithfulness metric is read from.

    The first column of `logits` and `probabilities` is the whole text; those of the plan follow, kind by kind, with
    k = floor(tokens * percent / 100). Where k = 0 nothing is perturbed, and the value is that of the whole text.
    """

    plan: Plan
    logits: Float[Tensor, "n points"]
    probabilities: Float[Tensor, "n points"]

    @property
    def whole(self) -> Float[Tensor, " n"]:
        """Probabilities on the whole text."""
        return self.probabilities[:, 0]

    @property
    def removed(self) -> Float[Tensor, "n percents"]:
        return self.probability("removed")

    @property
    def kept(self) -> Float[Tensor, "n percents"]:
        return self.probability("kept")

    @property
    def replaced(self) -> Float[Tensor, "n percents"]:
        return self.probability("replaced")

    def probability(self, kind: Kind, percents: tuple[float, ...] | None = None) -> Float[Tensor, "n percents"]:
        """Probabilities under one kind of perturbation; at all its percents of the plan by default."""
        return self.probabilities[:, self._columns(kind, percents)]

    def logit(self, kind: Kind, percents: tuple[float, ...] | None = None) -> Float[Tensor, "n points"]:
        """Logits under one kind of perturbation, the whole text's in front."""
        return self.logits[:, [0, *self._columns(kind, percents)]]

    def _columns(self, kind: Kind, percents: tuple[float, ...] | None) -> list[int]:
        wanted = self.plan.get(kind, ()) if percents is None else percents
        if missing := [percent for percent in wanted if (kind, percent) not in self._places]:
            raise ValueError(f"`percents` of {kind!r} must be of {self.plan.get(kind, ())}, got {missing}.")
        return [self._places[kind, percent] for percent in wanted]

    @cached_property
    def _places(self) -> dict[tuple[Kind, float], int]:
        points = [(kind, percent) for kind, percents in self.plan.items() for percent in percents]
        return {point: column for column, point in enumerate(points, start=1)}


def curves(
    explained: ExplainedModel, texts: Sequence[EncodedText], scores: RaggedScores, target: Target, plan: Plan = PLAN
) -> Curves:
    """Run every text under every perturbation of the plan through the explained model, in one pooled prediction.

    Args:
        scores: one tensor (tokens,) a text.
        target: the class explained, one a text.

    Raises:
        ValueError: when a text's scores do not have one entry a token, or hold NaN.
    """
    check_lengths(texts, scores)
    rows: list[Tokens] = []
    for text, score in zip(texts, scores, strict=True):
        rows += [text.tokens, *_perturbed(text, score.cpu(), plan, explained.baseline_token_id)]
    points = 1 + sum(len(percents) for percents in plan.values())
    logits, probabilities = of_target(explained, rows, target.cpu().repeat_interleave(points))
    return Curves(plan, logits.view(len(texts), points), probabilities.view(len(texts), points))


def check_lengths(texts: Sequence[EncodedText], scores: RaggedScores) -> None:
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
        if len(score) != len(text):
            raise ValueError(f"`scores[{i}]` has {len(score)} entries, the text has {len(text)} tokens.")


def _perturbed(text: EncodedText, scores: TokenScores, plan: Plan, baseline: int) -> list[Tokens]:
    order, reverse = ranked(scores, text.scorable), ranked(-scores, text.scorable)
    change: dict[Kind, Callable[[int], Tokens]] = {
        "removed": lambda k: remove(text, _first(order, k, len(text))),
        "kept": lambda k: keep(text, _first(order, k, len(text))),
        "replaced": lambda k: replace(text, _first(order, k, len(text)), baseline),
        "blanked": lambda k: blank(text, _first(order, k, len(text))),
        "blanked_least": lambda k: blank(text, _first(reverse, k, len(text))),
    }
    counts = [(kind, _share(text.n_scorable, percent)) for kind, percents in plan.items() for percent in percents]
    return [change[kind](k) if k else text.tokens for kind, k in counts]


def _share(n: int, percent: float) -> int:
    return int(n * percent / 100 + 1e-9)  # so that 5/9 in percent of 9 tokens are 5


def of_target(
    explained: ExplainedModel, rows: Sequence[Tokens], target: Int64[Tensor, " rows"]
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """The logit and the probability of each row's target."""
    logits = explained.predict(rows)
    places = target[:, None]
    return logits.gather(1, places)[:, 0], logits.softmax(dim=-1).gather(1, places)[:, 0]
