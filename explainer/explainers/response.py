"""Explainers of a language model's responses: the attention of the response's rows to the prompt, weighed.

While a model reads prompt and response, the rows that predict the target's tokens attend to the prompt (those of an
encoder-decoder's decoder to the encoder's tokens). With
A_h,i the attention of head h to token i, the mean over these rows,

    score_i = sum_h w_h A_h,i                      AT2 (Cohen-Wang et al., "Learning to Attribute with Attention", 2025)
    score_i = sum_h w_h exp(g_h(z_i)) A_h,i        here

The gate g reads what the model computes in the same pass: z is a narrow network that attends in both directions, over
the states of every layer, the attention A, and the target's tokens at the places where they are predicted. It starts at
g = 0, so that training begins at AT2's form.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Readout, Response, Target, TokenBatch
from explainer.explained.attention_rows import attention_rows, reading_layers
from explainer.explained.readout import NO_QUESTION
from explainer.explained.weights import Shapes
from explainer.explainers.base import AbstractMaskExplainer, in_place
from explainer.explainers.side import (
    SideBlock,
    attended_in,
    check_heads,
    directions,
    network_sizes,
    share_of_pass,
    states_of,
)
from explainer.typing import Embeddings, Scores

HeadAttention = Float[Tensor, "batch heads seq"]

FLOOR = 1e-4
"""Attention below this is not told apart by the network that reads it."""


class ResponsePass(NamedTuple):
    """What an explainer reads of one pass over prompts and responses: right-padded, without graph.

    Attributes:
        states: of the model's layers.
        attention: of the rows that predict the target, the mean over its tokens.
    """

    states: Sequence[Embeddings]
    attention: HeadAttention


class AbstractResponseExplainer(AbstractMaskExplainer):
    """An explainer that reads the pass over prompt and response, and scores the tokens of the prompt.

    A span of any length is one explanation: the target's tokens are marked in the batch (`TokenBatch.anchors`).
    """

    @classmethod
    def check_explained(cls, explained: ExplainedModel) -> None:
        if not isinstance(explained.task, Response):
            raise ValueError(
                f"The {cls.kind} explainer explains responses, and the task of `explained` is "
                f"{explained.task.name!r}: load the language model with `task=Response()`."
            )

    def forward(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return self.predict_and_attribute(explained, batch)[1](target)

    def predict_and_attribute(
        self, explained: ExplainedModel, batch: TokenBatch
    ) -> tuple[Readout, Callable[[Target], Scores]]:
        readout, read = read_response(explained, batch)
        return readout, partial(self.scores, explained, batch, read)

    def scores(self, explained: ExplainedModel, batch: TokenBatch, read: ResponsePass, target: Target) -> Scores:
        """Scores (batch, seq) for the target whose tokens the batch marks.

        Args:
            read: of the batch, as `read_response` gives it.

        Raises:
            ValueError: when the target has a foil: that is another sequence, whose scores have another unit.
        """
        if target.foil is not None:
            raise ValueError(
                "A response's foil is another sequence, and the scores for two have no common unit: take a method "
                "without training, such as `attn_lrp`."
            )
        padded, order = batch.right_padded()
        return in_place(batch, self.weigh(explained, padded, read, target), order)

    @abstractmethod
    def weigh(self, explained: ExplainedModel, padded: TokenBatch, read: ResponsePass, target: Target) -> Scores:
        """The scores of the right-padded batch."""


def read_response(explained: ExplainedModel, batch: TokenBatch) -> tuple[Readout, ResponsePass]:
    """The model's answer, and what an explainer reads of the same pass."""
    padded = batch.right_padded()[0]
    places = _task_of(explained).places(padded)
    shares = explained.task.read_share(padded).gather(1, places)
    with attention_rows(explained, places, shares / shares.sum(dim=1, keepdim=True)) as rows:
        readout, states = states_of(explained, batch)
    return readout, ResponsePass(states, rows.mean())


def _task_of(explained: ExplainedModel) -> Response:
    assert isinstance(explained.task, Response)
    return explained.task


def _n_heads(explained: ExplainedModel) -> int:
    """Attention heads of all layers together."""
    config = explained.model.config.get_text_config()
    return len(reading_layers(explained)) * int(config.num_attention_heads)


class AttentionExplainer(AbstractResponseExplainer):
    """AT2's linear form: one trained weight per attention head."""

    kind: ClassVar[str] = "attention"

    def __init__(self, explained: ExplainedModel) -> None:
        super().__init__(explained)
        n = _n_heads(explained)
        self.weight = nn.Parameter(torch.full((n,), 1.0 / n))
        self.forward_equivalents = 0.0

    def weigh(self, explained: ExplainedModel, padded: TokenBatch, read: ResponsePass, target: Target) -> Scores:
        return torch.einsum("bhs,h->bs", read.attention, self.weight)


class ResponseExplainer(AbstractResponseExplainer):
    """The attention of every head, gated by what the model knows of the token and of the target.

    Args:
        width: of the network that computes the gates.
        depth: how many blocks it has.
        rank: how many directions of each layer's states it reads.
        heads: of its attention; they divide the width.
        dropout: on its input and on each block's updates, in training.
    """

    kind: ClassVar[str] = "response"

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
        hidden, states, n = explained.hidden_size, len(explained.layers) + 1, _n_heads(explained)
        self.down = nn.Parameter(torch.randn(states, hidden, rank) / hidden**0.5)
        self.mix = nn.Linear(states * rank, width)
        self.attended = nn.Linear(n, width)
        self.asked = nn.Linear(hidden, width)
        self.blocks = nn.ModuleList(SideBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, n)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.weight = nn.Parameter(torch.full((n,), 1.0 / n))
        self.dropout = nn.Dropout(dropout)
        self.forward_equivalents = share_of_pass(explained, self)

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        super().check_settings(settings, shapes)
        check_heads(settings["width"], settings["heads"])

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, int | None]:
        return network_sizes(shapes, "mix.bias")

    def weigh(self, explained: ExplainedModel, padded: TokenBatch, read: ResponsePass, target: Target) -> Scores:
        attended = attended_in(padded)
        # Attention spans orders of magnitude, so its logarithm is read, from 0 at the floor to 1 at all attention.
        seen = 1 - (read.attention + FLOOR).log() / torch.tensor(FLOOR).log()
        z = (
            self.mix(directions(read.states, self.down))
            + self.attended(seen.transpose(1, 2))
            + self.marks(explained, padded, target)
        )
        z = self.dropout(z)
        for block in self.blocks:
            z = block(z, attended)
        gates = self.gate(self.norm(z)).exp()  # (batch, seq, heads)
        return torch.einsum("bhs,bsh,h->bs", read.attention, gates, self.weight)

    def marks(self, explained: ExplainedModel, padded: TokenBatch, target: Target) -> Embeddings:
        """The target's tokens, as the model's head has them, at the places where they are predicted; 0 elsewhere.

        Those places are no tokens of an encoder: there it is the mean of the target's tokens, everywhere.
        """
        places = _task_of(explained).places(padded)
        choices: Int64[Tensor, "batch questions"] = target.choices[:, : places.shape[1]].to(places.device)
        asked = choices != NO_QUESTION
        table = explained.model.get_output_embeddings().weight
        tokens = self.asked(
            F.layer_norm(table[choices.where(asked, torch.zeros_like(choices))].detach().float(), table.shape[-1:])
        )
        tokens = tokens * asked[..., None]
        if padded.decoder is not None:
            mean = tokens.sum(dim=1, keepdim=True) / asked.sum(dim=1)[:, None, None]
            return mean.expand(-1, padded.input_ids.shape[1], -1)
        empty = tokens.new_zeros(*padded.input_ids.shape, tokens.shape[-1])
        return empty.scatter_add(1, places[..., None].expand_as(tokens), tokens)
