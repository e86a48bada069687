"""Token operations: rank a text's tokens by their scores, and delete, replace, blank or hide some of them.

Special tokens and whatever else is not scorable stay as they are under every operation. Nor is a token deleted at which
the answer is read (`Tokens.anchors`: of an entity, or of the answer to a question): the baseline token stands in its
place.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int64

from explainer.explained import EncodedText, Tokens
from explainer.typing import TokenMask, TokenScores

Operator = Literal["delete", "replace", "blank", "hide"]
"""The four ways to take tokens out of a text: delete them (positions renumber), replace them by the baseline token, set
their word embeddings to zero, or hide them from attention (the last three keep every position)."""


def check_operator(operator: str | None) -> None:
    """Refuse an unknown operator.

    Raises:
        ValueError: naming it, and the four that exist.
    """
    if operator is not None and operator not in get_args(Operator):
        raise ValueError(f"`operator` must be one of {', '.join(get_args(Operator))}, got {operator!r}.")


def ranked(scores: TokenScores, scorable: TokenMask) -> Int64[torch.Tensor, " ranks"]:
    """The positions of the scorable tokens, the highest score first; ties go to the earlier position.

    Raises:
        ValueError: when a scorable token's score is not a number.
    """
    if torch.isnan(scores[scorable]).any():
        raise ValueError("`scores` holds NaN: these attributions rank nothing.")
    positions = scorable.nonzero()[:, 0]
    return positions[scores[positions].argsort(descending=True, stable=True)]


def top_k(scores: TokenScores, scorable: TokenMask, k: int) -> TokenMask:
    """The `k` scorable tokens of the highest scores; ties go to the earlier position.

    Raises:
        ValueError: when a scorable token's score is not a number.
    """
    mask = torch.zeros_like(scorable)
    mask[ranked(scores, scorable)[:k]] = True
    return mask


def mask_of(positions: Int64[torch.Tensor, " chosen"] | list[int], length: int) -> TokenMask:
    """The positions as a mask over `length` tokens.

    >>> mask_of([0, 2], 3)
    tensor([ True, False,  True])
    """
    mask = torch.zeros(length, dtype=torch.bool)
    mask[positions] = True
    return mask


def remove(text: EncodedText, mask: TokenMask, token_id: int) -> Tokens:
    """The text with the masked scorable tokens deleted; the positions of the others renumber.

    Args:
        token_id: takes the place of those at which the answer is read.
    """
    return text.tokens.deleted(mask & text.scorable, token_id)


def keep(text: EncodedText, mask: TokenMask, token_id: int) -> Tokens:
    """The text with all scorable tokens but the masked ones deleted."""
    return remove(text, ~mask, token_id)


def replace(text: EncodedText, mask: TokenMask, token_id: int) -> Tokens:
    """The text with the masked scorable tokens replaced by one token."""
    return text.tokens.replaced(mask & text.scorable, token_id)


def blank(text: EncodedText, mask: TokenMask) -> Tokens:
    """The text with the word embeddings of the masked scorable tokens set to zero."""
    return text.tokens.blanked(mask & text.scorable)


def hide(text: EncodedText, mask: TokenMask, token_id: int) -> Tokens:
    """The text with the masked scorable tokens hidden from attention; every token keeps its position.

    No token attends to a hidden one. A decoder that reads its answer at a hidden last token still sees that token's own
    word embedding, through the residual connections. A marked token, at which the answer is read, is replaced as well.

    Args:
        token_id: takes the place of those at which the answer is read.
    """
    hidden, anchors = mask & text.scorable, text.tokens.anchors
    tokens = text.tokens if anchors is None else text.tokens.replaced(hidden & (anchors > 0), token_id)
    return tokens.concealed(hidden)


def units_away(
    kept: Bool[torch.Tensor, "masks units"], units: Sequence[TokenMask], length: int
) -> Bool[torch.Tensor, "masks tokens"]:
    """The tokens of the units that each mask takes away.

    Args:
        kept: the units that stay.
        units: the tokens of each.
        length: the tokens of the text.

    >>> units_away(torch.tensor([[True, False]]), [mask_of([0], 3), mask_of([1, 2], 3)], 3)
    tensor([[False,  True,  True]])
    """
    if not units:
        return torch.zeros(len(kept), length, dtype=torch.bool)
    return (~kept).double() @ torch.stack(list(units)).double() > 0


def perturb(text: EncodedText, mask: TokenMask, operator: Operator, baseline_token_id: int) -> Tokens:
    """The text with `operator` applied to the masked scorable tokens.

    Args:
        baseline_token_id: the token that `replace` puts in their place, and the others where the answer is read.
    """
    if operator == "blank":
        return blank(text, mask)
    return {"replace": replace, "delete": remove, "hide": hide}[operator](text, mask, baseline_token_id)
