"""The contract of a mask explainer: a network that scores every token of a text in one pass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from explainer.explained import ExplainedModel, TokenBatch
from explainer.explained.passes import edit_output, model_inputs
from explainer.models.label import LabelEmbedding
from explainer.typing import Embeddings, Scores


class AbstractMaskExplainer(nn.Module, ABC):
    """One real score a token for the asked class; the sigmoid of it is AML's mask a in (0, 1).

    A concrete explainer says which backbone reads the text (`hidden_states`); label conditioning and head are
    shared. It never owns the explained model: that is passed to every call.
    """

    kind: ClassVar[str]

    def __init__(self, explained: ExplainedModel, **settings: Any) -> None:
        super().__init__()
        self.settings = settings
        hidden = explained.backbone.config.hidden_size
        self.label = LabelEmbedding(explained)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    @abstractmethod
    def backbone(self, explained: ExplainedModel) -> PreTrainedModel:
        """The network whose last hidden states the head reads."""

    @abstractmethod
    def trained(self, explained: ExplainedModel) -> dict[str, nn.Parameter]:
        """What training changes, by name: all that a checkpoint or an export holds."""

    def hidden_states(self, explained: ExplainedModel, batch: TokenBatch, edit: Any) -> Embeddings:
        backbone = self.backbone(explained)
        # A decoder reads the whole text, in both directions, when it explains.
        both_ways = {} if explained.is_encoder else {"is_causal": False}
        with edit_output(backbone.get_input_embeddings(), edit):
            return backbone(**model_inputs(backbone, batch), **both_ways).last_hidden_state

    def forward(self, explained: ExplainedModel, batch: TokenBatch, labels: Float[Tensor, "batch labels"]) -> Scores:
        """Scores (batch, seq) for the class that `labels` weighs (one-hot rows), 0 where not scorable."""
        aligned, order = batch.aligned()
        longer, edit = self.label.join(explained, aligned, labels)
        states = self.hidden_states(explained, longer, edit)
        # The label's position is dropped again before the head.
        scores = self.head(states[:, :-1].to(self.label.shared.dtype))[..., 0].float()
        return batch.restored(scores, order).masked_fill(~batch.scorable, 0.0)

    def load_trained(self, explained: ExplainedModel, weights: Mapping[str, Tensor]) -> None:
        """Copy saved weights in.

        Raises:
            ValueError: when a weight is missing, unknown or of another shape.
        """
        parameters = self.trained(explained)
        if set(parameters) != set(weights):
            odd = sorted(set(parameters) ^ set(weights))
            raise ValueError(f"The saved weights and this explainer differ in {len(odd)} names, such as {odd[0]!r}.")
        with torch.no_grad():
            for name, parameter in parameters.items():
                if parameter.shape != weights[name].shape:
                    raise ValueError(
                        f"{name!r} has shape {tuple(weights[name].shape)} in the file, "
                        f"{tuple(parameter.shape)} in this explainer: it was trained for another explained model."
                    )
                parameter.copy_(weights[name])
