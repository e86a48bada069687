"""The heads that matter: the positional and the syntactic ones, by two thresholds."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from explainer.attention_heads.statistics import WIDEST, HeadShares

Heads = Bool[Tensor, "layers heads"]


def positional(shares: HeadShares, xi_pos: float) -> Heads:
    """Heads whose argmax lies at one offset for more than `xi_pos` of the tokens."""
    return shares.offsets.amax(dim=-1) > xi_pos


def syntactic(shares: HeadShares, xi_synt: float) -> Heads:
    """Heads that hit a relation's head word by more than `xi_synt` above lambda_k, the most frequent offset's share."""
    return (shares.hits > shares.guess + xi_synt).any(dim=-1)


def summary(shares: HeadShares, relations: Sequence[str]) -> dict[str, Any]:
    """The statistics as JSON: all numbers are shares, tables are [layer][head].

    A relation's `baseline` is the share of its most frequent offset.
    """
    share, column = shares.offsets.max(dim=-1)
    return {
        "n_tokens": shares.n_tokens,
        "offset": (column - WIDEST).tolist(),
        "offset_share": _rounded(share),
        "relations": {
            name: {
                "n": int(shares.n_relations[k]),
                "baseline": _rounded(shares.guess[k]),
                "hits": _rounded(shares.hits[..., k]),
            }
            for k, name in enumerate(relations)
        },
    }


def _rounded(values: Tensor) -> Any:
    return torch.round(values.double(), decimals=4).tolist()
