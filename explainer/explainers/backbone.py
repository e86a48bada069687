"""A mask explainer that reads the text itself, by a backbone like the explained model's (AML, section 3)."""

from abc import abstractmethod
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.explained.passes import EmbeddingEdit, edit_output, within
from explainer.explainers.base import AbstractMaskExplainer, in_place
from explainer.explainers.conditioning import like_words
from explainer.typing import Embeddings, Scores

REACH = 3
"""Texts up to three times as long as the longest one of the training are explained well (measured: docs/results)."""


class AbstractBackboneExplainer(AbstractMaskExplainer):
    """One pass of a backbone that is told the target, and a head that reads its last hidden states.

    A concrete explainer says which backbone that is.

    Args:
        reader: the model whose tokens, embeddings and conventions the backbone has; by default the explained one.
    """

    def __init__(self, explained: ExplainedModel, reader: ExplainedModel | None = None, **settings: Any) -> None:
        super().__init__(explained, **settings)
        reader = reader or explained
        if not reader.reads_both_ways:
            half = reader.model.dtype.itemsize < 4  # rounding adds up when a causal model reads both ways
            reason = ", pools tokens, or rounds too coarsely in half precision" if half else ", or pools tokens"
            raise ValueError(
                f"{type(reader.model).__name__} gives no state per token that knows what follows it (it is causal for "
                f"good{reason}), so its backbone cannot explain: take {'`dtype` float32, or ' if half else ''}`side`"
                + ("." if reader is explained else ", or another `encoder`.")
            )
        hidden = reader.hidden_size
        self.label = like_words(explained, reader)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    @property
    def reach(self) -> int | None:
        # A class's embedding is placed after the last token. On texts much longer than those trained on, the network
        # no longer attends to it.
        return None if self.longest_text is None else REACH * self.longest_text

    @abstractmethod
    def backbone(self, explained: ExplainedModel) -> PreTrainedModel:
        """The network whose last hidden states the head reads."""

    def hidden_states(self, reader: ExplainedModel, batch: TokenBatch, edit: EmbeddingEdit) -> Embeddings:
        """The backbone's last hidden states, from word embeddings changed by `edit`."""
        backbone = self.backbone(reader)
        with edit_output(backbone.get_input_embeddings(), within(batch, edit, reader.sequence_first)):
            return reader.reading_both_ways(backbone, batch)

    def read(self, reader: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        """The head's number at every position of a right-padded batch of the reader's tokens."""
        longer, edit = self.label.join(reader, batch, target)
        states = self.hidden_states(reader, longer, edit)
        # The extra position is dropped again before the head.
        return self.head(states[:, : batch.input_ids.shape[1]].to(self.label.shared.dtype))[..., 0]

    def forward(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        padded, order = batch.right_padded()
        return in_place(batch, self.read(explained, padded, target), order)
