"""AttCAT: attentive class activation tokens.

Qiang et al., AttCAT: Explaining Transformers via Attentive Class Activation Tokens, NeurIPS 2022. With h_i^l the
state of token i that layer l reads, and a_i^l the attention that token i receives there, averaged over the queries:

    CAT_i^l = sum_d h_id^l * df_c / dh_id^l
    AttCAT_i = sum_l mean over heads of a_i^l * CAT_i^l
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import ExplainedModel, Target, TokenBatch, check_one_per_layer
from explainer.explained.passes import layer_states
from explainer.explained.readout import precise
from explainer.methods.attention.weights import as_leaf, record_weights
from explainer.methods.base import AbstractBatchMethod, in_one_sequence, scorable_only
from explainer.typing import Scores


@dataclass(frozen=True)
class AttCAT(AbstractBatchMethod):
    """AttCAT of the objective. In an encoder-decoder, the sum runs over the layers of the encoder.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "attcat"

    @in_one_sequence()
    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        with torch.enable_grad(), record_weights(explained) as weights, layer_states(explained.layers) as states:
            value = explained.objective(batch, target, edit=as_leaf).sum()
            check_one_per_layer(explained.model, explained.depth, [each.shape for each in weights])
            read = states[: len(explained.layers)]  # what each layer reads: all states but the last
            gradients = torch.autograd.grad(value, read)
        padded, order = batch.right_padded()
        # An encoder-decoder also has the attention of its decoder, which comes last and is left out.
        layers = zip(weights[: len(read)], read, gradients, strict=True)
        parts = [
            _received(precise(own.detach()), padded) * (precise(state) * precise(slope)).sum(dim=-1)
            for own, state, slope in layers
        ]
        return scorable_only(batch.original_order(torch.stack(parts).sum(dim=0), order), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0


def _received(weights: Tensor, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
    """The attention that each position receives, averaged over heads and over the queries that are no padding."""
    queries = batch.attention_mask.to(weights.dtype)
    return (queries[:, None] @ weights.mean(dim=1))[:, 0] / queries.sum(dim=1, keepdim=True)
