"""A mask explainer that reads the text itself, by a backbone like the explained model's (AML, section 3)."""

from abc import abstractmethod
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from explainer.explained import ExplainedModel, TokenBatch
from explainer.explained.passes import edit_output, model_inputs
from explainer.explainers.base import AbstractMaskExplainer, LabelWeights, in_place
from explainer.explainers.conditioning import LabelEmbedding
from explainer.typing import Embeddings, Scores

REACH = 3  # measured: docs/attributor.md, long texts


class AbstractBackboneExplainer(AbstractMaskExplainer):
    """One pass of a backbone, with the label at an extra position, and a head that reads its last hidden states.

    A concrete explainer says which backbone that is.
    """

    def __init__(self, explained: ExplainedModel, **settings: Any) -> None:
        super().__init__(explained, **settings)
        hidden = explained.backbone.config.hidden_size
        self.label = LabelEmbedding.like_words(explained)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    @property
    def reach(self) -> int | None:
        """The label's position lies behind the text: far behind those of the training, it is not read any more."""
        return None if self.longest_text is None else REACH * self.longest_text

    @abstractmethod
    def backbone(self, explained: ExplainedModel) -> PreTrainedModel:
        """The network whose last hidden states the head reads."""

    def hidden_states(self, explained: ExplainedModel, batch: TokenBatch, edit: Any) -> Embeddings:
        backbone = self.backbone(explained)
        # A decoder reads the whole text, in both directions, when it explains.
        both_ways = {} if explained.is_encoder else {"is_causal": False}
        with edit_output(backbone.get_input_embeddings(), edit):
            return backbone(**model_inputs(backbone, batch), **both_ways).last_hidden_state

    def forward(self, explained: ExplainedModel, batch: TokenBatch, labels: LabelWeights) -> Scores:
        aligned, order = batch.aligned()
        longer, edit = self.label.join(explained, aligned, labels)
        states = self.hidden_states(explained, longer, edit)
        # The label's position is dropped again before the head.
        scores = self.head(states[:, :-1].to(self.label.shared.dtype))[..., 0]
        return in_place(batch, scores, order)
