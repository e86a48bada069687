"""The contract of a mask explainer: a network that scores every token of a text for any class."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import ExplainedModel, TokenBatch
from explainer.explainers.conditioning import LabelEmbedding
from explainer.typing import Logits, Scores

LabelWeights = Float[Tensor, "batch labels"]


class AbstractMaskExplainer(nn.Module, ABC):
    """One real score a token for the asked class; the sigmoid of it is AML's mask a in (0, 1).

    It never owns the explained model: that is passed to every call.

    Attributes:
        label: what tells it the class that is asked.
        settings: the constructor's arguments, as an export keeps them.
        forward_equivalents: what the explanation costs beside the prediction, in forward passes of the explained model.
        longest_text: tokens of the longest text that it was trained on; None where that is not known.
    """

    kind: ClassVar[str]
    label: LabelEmbedding

    def __init__(self, explained: ExplainedModel, **settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self.forward_equivalents = 1.0
        self.longest_text: int | None = None

    @property
    def reach(self) -> int | None:
        """Tokens of the longest text that its scores can be relied on for; None where no limit is known."""
        return None

    @abstractmethod
    def forward(self, explained: ExplainedModel, batch: TokenBatch, labels: LabelWeights) -> Scores:
        """Scores (batch, seq) for the class that `labels` weighs (one-hot rows), 0 where not scorable."""

    def predicting(
        self, explained: ExplainedModel, batch: TokenBatch
    ) -> tuple[Logits, Callable[[LabelWeights], Scores]]:
        """The explained model's logits, and a function that gives the scores of the same batch for any labels.

        An explainer that reads what the prediction computes anyway overrides this: both then come from one pass.
        """
        with torch.no_grad():
            return explained(batch), partial(self, explained, batch)

    def trained(self, explained: ExplainedModel) -> dict[str, nn.Parameter]:
        """What training changes, by name: all that a checkpoint or an export holds."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

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


def in_place(batch: TokenBatch, scores: Scores, order: Tensor | None) -> Scores:
    """Scores of the aligned batch in the batch's own columns: float32, and 0 where not scorable."""
    return batch.restored(scores.float(), order).masked_fill(~batch.scorable, 0.0)
