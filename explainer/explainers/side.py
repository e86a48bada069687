"""An explainer on top of the prediction: a narrow network on the hidden states of the pass that the prediction takes.

Ladder side-tuning (Sung, Cho and Bansal, NeurIPS 2022) lets a small network read a frozen backbone's states layer by
layer; AutoGnothi (Wang et al., "Bridging the Gap between Prediction and Explanation", 2024) explains by such a network
and leaves the prediction as it was. Here, with h_l the frozen state of layer l (l = 0: what enters the first),

    z = W [norm(h_0 D_0); ...; norm(h_L D_L)] + sum_c w_c (E_c + E_0)     D_l: hidden x rank
    s = sum_c w_c head_c(norm(blocks(z)))                                 w: 1 for the target's class, else 0

Where the target is about tokens of the text, E is added at these tokens alone, and the head has one output.

The blocks are pre-norm transformer blocks that attend in both directions, also on a causal model. The conditioning is
added after the states are read, so that one pass serves any number of classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Readout, Target, TokenBatch, ZeroShotClassification
from explainer.explained.passes import layer_states, of_sequence
from explainer.explained.weights import Shapes
from explainer.explainers.base import AbstractMaskExplainer, in_place
from explainer.explainers.conditioning import conditioning_of
from explainer.typing import Embeddings, Scores

SideInput = Float[Tensor, "batch seq width"]
Attended = Bool[Tensor, "batch 1 1 seq"]


class SideExplainer(AbstractMaskExplainer):
    """A narrow transformer on the states of every layer; the explained model runs once for prediction and explanation.

    Args:
        width: of the side network.
        depth: how many blocks it has.
        rank: how many directions of each layer's states it reads.
        heads: of its attention; they divide the width.
        dropout: on its input and on each block's updates, in training.
    """

    kind: ClassVar[str] = "side"

    def __init__(
        self,
        explained: ExplainedModel,
        width: int = 64,
        depth: int = 2,
        rank: int = 24,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(explained, width=width, depth=depth, rank=rank, heads=heads, dropout=dropout)
        check_heads(width, heads)
        hidden = explained.hidden_size
        states = len(explained.layers) + 1
        self.down = nn.Parameter(torch.randn(states, hidden, rank) / hidden**0.5)
        self.mix = nn.Linear(states * rank, width)
        self.label = conditioning_of(explained, width)
        outputs = self.label.outputs
        self.blocks = nn.ModuleList(SideBlock(width, heads, dropout) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs))
        self.dropout = nn.Dropout(dropout)
        self.forward_equivalents = share_of_pass(explained, self)

    @classmethod
    def check_explained(cls, explained: ExplainedModel) -> None:
        super().check_explained(explained)
        if isinstance(explained.task, ZeroShotClassification):
            raise ValueError(
                "The side explainer reads the states of one pass, and zero-shot classification takes one for each "
                "label: train the `separate`, `lora` or `encoder` explainer."
            )

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        super().check_settings(settings, shapes)
        check_heads(settings["width"], settings["heads"])

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, int | None]:
        return network_sizes(shapes, "label.shared")

    def forward(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return self.predict_and_attribute(explained, batch)[1](target)

    def predict_and_attribute(
        self, explained: ExplainedModel, batch: TokenBatch
    ) -> tuple[Readout, Callable[[Target], Scores]]:
        readout, states = states_of(explained, batch)
        return readout, self.scoring(batch, states)

    def scoring(self, batch: TokenBatch, states: Sequence[Embeddings]) -> Callable[[Target], Scores]:
        """A function that gives the scores of the batch for any target.

        Args:
            states: of the batch's layers, as `states_of` gives them.
        """
        padded, order = batch.right_padded()
        side_input = self.side_input(states)
        attended = attended_in(padded)

        def score(target: Target) -> Scores:
            return in_place(batch, self.explain(side_input, self.label.added(padded, target), target, attended), order)

        return score

    def side_input(self, states: Sequence[Embeddings]) -> SideInput:
        """What the side network reads: the same number of directions of each layer, normed and mixed."""
        return self.dropout(self.mix(directions(states, self.down)))

    def explain(self, side_input: SideInput, told: Tensor, target: Target, attended: Attended | None = None) -> Scores:
        """Scores of every position.

        Args:
            told: what the conditioning adds.
            attended: false at padding.
        """
        states = side_input + told
        for block in self.blocks:
            states = block(states, attended)
        return self.label.chosen(self.head(states), target)


def check_heads(width: int, heads: int) -> None:
    """Refuse a number of heads that does not divide the width."""
    if width % heads:
        raise ValueError(f"`heads` must divide `width`, got {heads} heads and a width of {width}.")


def network_sizes(shapes: Shapes, vector: str) -> dict[str, int | None]:
    """Width, depth and rank of a network that reads states, by the shapes of its saved weights.

    Args:
        vector: the name of a weight that is one vector as wide as the network.
    """
    down, wide = shapes.get("down", ()), shapes.get(vector, ())
    return {
        "width": wide[0] if wide else None,
        "depth": sum(name.startswith("blocks.") and name.endswith(".attended.weight") for name in shapes),
        "rank": down[2] if len(down) == 3 else None,
    }


def share_of_pass(explained: ExplainedModel, network: nn.Module) -> float:
    """The cost of a network on states, in passes of the explained model.

    A token costs about two operations per weight, in the network as in the backbone's layers.
    """
    layers = sum(parameter.numel() for layer in explained.layers for parameter in layer.parameters())
    return sum(parameter.numel() for parameter in network.parameters()) / layers


def attended_in(padded: TokenBatch) -> Attended | None:
    """False at padding; None without any, since attention is faster then. A program is traced for any padding."""
    whole = not torch.compiler.is_exporting() and bool(padded.attention_mask.all())
    return None if whole else padded.attention_mask.bool()[:, None, None]


def directions(states: Sequence[Embeddings], down: Float[Tensor, "states hidden rank"]) -> Float[Tensor, "batch seq _"]:
    """The same number of directions of each layer's states, normed per layer, side by side."""
    read = torch.stack([state.to(down.dtype) @ weight for state, weight in zip(states, down, strict=True)], dim=2)
    return F.layer_norm(read, read.shape[-1:]).flatten(2)


def states_of(explained: ExplainedModel, batch: TokenBatch) -> tuple[Readout, list[Embeddings]]:
    """The model's answer, and the states of its layers in the same pass: detached, right-padded."""
    with torch.no_grad(), layer_states(explained.layers) as states:
        readout = explained(batch)
    return readout, [of_sequence(state, batch, explained.sequence_first)[0] for state in states]


class SideBlock(nn.Module):
    """Attention and a feed-forward layer of twice the width, each normed before and added to the state."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attended, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: SideInput, attended: Attended | None) -> SideInput:
        states = states + self.dropout(self.attention(self.attention_norm(states), attended))
        return states + self.dropout(self.down(F.gelu(self.up(self.forward_norm(states)))))

    def attention(self, states: SideInput, attended: Attended | None) -> SideInput:
        batch, seq, width = states.shape
        parts = self.attended(states).view(batch, seq, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (batch, heads, seq, width of a head)
        states = F.scaled_dot_product_attention(query, key, value, attn_mask=attended)
        return self.joined(states.transpose(1, 2).reshape(batch, seq, width))
