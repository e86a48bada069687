"""Perturbing texts by scores: keep, remove and replace tokens; blend their embeddings with the baseline's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, TokenBatch, Tokens
from explainer.typing import Embeddings, RaggedScores, Target, TokenMask, TokenScores


def top_k(scores: TokenScores, scorable: TokenMask, k: int) -> TokenMask:
    """The `k` scorable tokens of the highest scores; ties go to the earlier position.

    Raises:
        ValueError: when a scorable token's score is not a number.
    """
    if torch.isnan(scores[scorable]).any():
        raise ValueError("`scores` holds NaN: these attributions rank nothing.")
    places = scorable.nonzero()[:, 0]
    chosen = torch.zeros_like(scorable)
    chosen[places[scores[places].argsort(descending=True, stable=True)[:k]]] = True
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


@dataclass(frozen=True)
class Curves:
    """Probabilities of the target under perturbation by rank: what every faithfulness metric is read from.

    `whole` (n,): on the whole text. `removed`, `kept`, `replaced` (n, percents): with the top k tokens deleted, with
    only those and the specials kept, with those replaced by the baseline token; k = floor(tokens * percent / 100).
    Where k = 0 nothing is perturbed, and all three equal `whole`.
    """

    percents: tuple[float, ...]
    whole: Float[Tensor, " n"]
    removed: Float[Tensor, "n percents"]
    kept: Float[Tensor, "n percents"]
    replaced: Float[Tensor, "n percents"]

    def at(self, percent: float) -> int:
        """The column of a percent."""
        if percent not in self.percents:
            raise ValueError(f"`percent` must be one of {self.percents}, got {percent}.")
        return self.percents.index(percent)


PERCENTS = (1.0, 5.0, 10.0, 20.0, 50.0)


def curves(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    scores: RaggedScores,
    target: Target,
    percents: tuple[float, ...] = PERCENTS,
) -> Curves:
    """Run every text under every perturbation through the explained model, all in one pooled prediction.

    Args:
        scores: one tensor (tokens,) a text.
        target: the class explained, one a text.

    Raises:
        ValueError: when a text's scores do not have one entry a token, or hold NaN.
    """
    rows: list[Tokens] = []
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
        if len(score) != len(text):
            raise ValueError(f"`scores[{i}]` has {len(score)} entries, the text has {len(text)} tokens.")
        rows.append(text.tokens)
        for percent in percents:
            k = int(text.n_scorable * percent / 100)
            mask = top_k(score.cpu(), text.scorable, k)
            variants = [remove(text, mask), keep(text, mask), replace(text, mask, explained.baseline_token_id)]
            rows += variants if k else [text.tokens] * 3
    probabilities = explained.predict(rows).softmax(dim=-1)
    per_text = probabilities.view(len(texts), 1 + 3 * len(percents), -1)
    of_target = per_text.gather(2, target.cpu()[:, None, None].expand(-1, per_text.shape[1], 1))[..., 0]
    perturbed = of_target[:, 1:].view(len(texts), len(percents), 3)
    return Curves(percents, of_target[:, 0], *perturbed.unbind(dim=-1))
