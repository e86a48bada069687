"""Mean attention: how much the positions that give the answer attend to each token, over all layers and heads.

    score_i = mean over layers, heads and read positions t of A_ti

For a response the positions are those that predict the target's tokens; for a classifier, those that its head reads.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Target, TokenBatch, check_one_per_layer, edit_attention_weights
from explainer.explained.readout import precise
from explainer.methods.attention.weights import scores_read
from explainer.methods.base import AbstractBatchMethod, in_one_sequence
from explainer.typing import Scores


@dataclass(frozen=True)
class MeanAttention(AbstractBatchMethod):
    """The attention that each token receives from the read positions: no evidence for a choice, and never negative.

    Of an encoder-decoder it is the attention of its decoder: to the encoder's tokens, and to the text that it reads.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "mean_attention"

    @in_one_sequence(plain=True)
    @torch.no_grad()
    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        sums: dict[str, Tensor] = {}
        shapes: list[torch.Size] = []
        depth = explained.depth

        def add(module: nn.Module, weights: Tensor) -> Tensor:
            kind = "own" if len(shapes) < depth else ("decoder", "cross")[(len(shapes) - depth) % 2]
            shapes.append(weights.shape)
            mean = precise(weights).mean(dim=1)  # one layer's heads are held at a time
            sums[kind] = sums[kind] + mean if kind in sums else mean
            return weights

        with edit_attention_weights(explained.model, add):
            explained(batch)
        check_one_per_layer(explained.model, depth, shapes)
        if len(shapes) == depth:
            return scores_read(explained, batch, sums["own"] / depth)
        n_blocks = (len(shapes) - depth) // 2
        return scores_read(explained, batch, sums["cross"] / n_blocks, sums["decoder"] / n_blocks)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 1.0
