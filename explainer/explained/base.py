"""What every frozen classifier being explained has, of texts or of images."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from explainer.explained.passes import EmbeddingEdit
from explainer.typing import Logits, Target

PREDICTED = -1
"""In place of a class index: the class that the model predicts."""


class AbstractExplained(nn.Module):
    """A Hugging Face classifier, frozen and in eval mode for good."""

    def __init__(self, model: PreTrainedModel, name: str | None) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.name = name

    @abstractmethod
    def forward(self, batch: Any, edit: EmbeddingEdit | None = None) -> Logits:
        """Label logits in float32 (at least); `edit` maps the embeddings (batch, seq, hidden) to those used instead."""

    @property
    def labels(self) -> list[str]:
        return [self.model.config.id2label[i] for i in range(self.model.config.num_labels)]

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def backbone(self) -> PreTrainedModel:
        """The model without its classification head; of an encoder-decoder, the encoder."""
        base = self.model.base_model
        return base.get_encoder() if self.model.config.is_encoder_decoder else base

    @property
    def layers(self) -> list[nn.Module]:
        """The backbone's transformer blocks, from the lowest up."""
        depth = self.model.config.get_text_config().num_hidden_layers
        return list(next(m for m in self.backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == depth))

    def train(self, mode: bool = True) -> "AbstractExplained":
        """Stays in eval mode, whatever a training loop asks."""
        return super().train(False)

    def label_index(self, target: str | int) -> int:
        """The class index that a label or an index means; `PREDICTED` for "predicted".

        Raises:
            ValueError: when there is no such label or index.
        """
        if target == "predicted":
            return PREDICTED
        names = {str(i): i for i in range(len(self.labels))} | {
            label.casefold(): i for i, label in enumerate(self.labels)
        }
        index = target if isinstance(target, int) else names.get(target.casefold(), -1)
        if not 0 <= index < len(self.labels):
            raise ValueError(
                f"`target` must be 'predicted', one of the labels {self.labels} or an index below "
                f"{len(self.labels)}, got {target!r}."
            )
        return index

    def target(self, target: str | int, probabilities: Float[Tensor, "batch labels"]) -> Target:
        """One class index a text: the predicted one, a label's, or the one given.

        Raises:
            ValueError: when there is no such label or index.
        """
        index = torch.full((len(probabilities),), self.label_index(target), device=probabilities.device)
        return chosen_or_predicted(index[:, None], probabilities)[:, 0]


def chosen_or_predicted(
    targets: Int64[Tensor, "batch targets"], logits: Float[Tensor, "batch labels"]
) -> Int64[Tensor, "batch targets"]:
    """Class indices with the predicted class wherever `PREDICTED` stands."""
    return torch.where(targets == PREDICTED, logits.argmax(dim=1, keepdim=True), targets)


def at_least_float32(logits: Tensor) -> Logits:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
