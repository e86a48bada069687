"""The tokens that several sequences begin with: their keys and values are computed once, for causal models.

A causal model's states of the first tokens do not depend on what follows. Perturbed texts share the prompt before them,
so its part of every layer is read from transformers' key-value cache.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from explainer.explained.batch import TokenBatch, Tokens
from explainer.explained.conventions import accepts
from explainer.explained.passes import model_inputs

SHORTEST = 8
"""Tokens of the shortest prefix that is worth a pass of its own."""


def may_share(model: PreTrainedModel) -> bool:
    """Whether a prefix can be cached: transformers' own cache, and no layer that forgets what is far away."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    forgets = any(kind != "full_attention" for kind in kinds) if kinds else window is not None
    return accepts(model, "past_key_values") and not model.config.is_encoder_decoder and not forgets


def shared_prefix(sequences: Sequence[Tokens]) -> int:
    """How many tokens all sequences begin with; 0 where it is not worth it.

    Each sequence has at least one more, at which it is asked: the one before its first anchored token, else the last.
    """
    if len(sequences) < 2 or any(tokens.token_type_ids is not None for tokens in sequences):
        return 0
    first = sequences[0].input_ids
    shared = min(map(_first_asked, sequences))
    for tokens in sequences:
        same = tokens.input_ids[:shared] == first[:shared]
        for changed in (tokens.zeroed, tokens.hidden):
            same = same if changed is None else same & ~changed[:shared]
        shared = int(same.cumprod(dim=0).sum())
    return shared if shared >= SHORTEST else 0


def _first_asked(tokens: Tokens) -> int:
    """The first position at which the model is asked for something."""
    return len(tokens) - 1 if tokens.anchors is None else int(tokens.anchors.nonzero()[0]) - 1


class Prefix:
    """The cached beginning of sequences.

    Args:
        ids: (prefix,) on the model's device.
        positions: whether the model is given positions.
    """

    def __init__(self, model: PreTrainedModel, ids: Tensor, positions: bool) -> None:
        self.length = len(ids)
        self._positions = positions
        base = model.base_model  # the head is not needed
        self._cache: Any = base(input_ids=ids[None], use_cache=True).past_key_values

    def inputs(self, model: PreTrainedModel, rest: TokenBatch) -> dict[str, Any]:
        """The keyword arguments of the model for what follows the prefix, right-padded."""
        inputs = model_inputs(model, rest, self._positions)
        before = torch.ones_like(rest.attention_mask[:, :1]).expand(-1, self.length)
        inputs["attention_mask"] = torch.cat([before, inputs["attention_mask"]], dim=1)
        if "position_ids" in inputs:
            inputs["position_ids"] = inputs["position_ids"] + self.length
        cache = copy.deepcopy(self._cache)  # transformers appends to it in place
        cache.batch_repeat_interleave(len(rest))
        return {**inputs, "past_key_values": cache, "use_cache": True}


def after(tokens: Tokens, prefix: int) -> Tokens:
    """The tokens that follow the first ones."""
    return tokens.select(torch.arange(len(tokens)) >= prefix)
