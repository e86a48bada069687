"""AttCAT: attentive class activation tokens.

Qiang et al., AttCAT: Explaining Transformers via Attentive Class Activation Tokens, NeurIPS 2022. With h_i^l the
state of token i that layer l reads, and a_i^l the attention that token i receives there, averaged over the queries:

    CAT_i^l = sum_d h_id^l * df_c / dh_id^l
    AttCAT_i = sum_l mean over heads of a_i^l * CAT_i^l
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.attention.maps import lifted, maps_read
from explainer.methods.base import AbstractMethod, logit_of, scorable_only
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class AttCAT(AbstractMethod):
    """AttCAT of the target's logit; of an encoder-decoder the sum is over the encoder's layers.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "attcat"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        with torch.enable_grad(), maps_read(explained) as maps, _states(explained.layers) as states:
            value = logit_of(explained(batch, edit=lifted), target).sum()
            gradients = torch.autograd.grad(value, states)
        aligned, order = batch.aligned()
        layers = zip(maps, states, gradients, strict=False)  # an encoder-decoder has more maps, the decoder's
        parts = [_received(weights.detach(), aligned) * (state * slope).sum(dim=-1) for weights, state, slope in layers]
        return scorable_only(batch.restored(torch.stack(parts).sum(dim=0), order), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0


def _received(weights: Tensor, batch: TokenBatch) -> Tensor:
    """(batch, keys): the attention each position receives, averaged over heads and the text's own positions."""
    queries = batch.attention_mask.to(weights.dtype)
    return (queries[:, None] @ weights.mean(dim=1))[:, 0] / queries.sum(dim=1, keepdim=True)


@contextlib.contextmanager
def _states(layers: list[nn.Module]) -> Iterator[list[Tensor]]:
    """The hidden states that the layers read inside the block."""
    found: list[Tensor] = []

    def read(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(read, with_kwargs=True).remove)
        yield found
