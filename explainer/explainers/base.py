"""The contract of a mask explainer: a network that scores every token of a text for any target it was trained on."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Readout, Target, TokenBatch
from explainer.explained.weights import Shapes, check_sizes
from explainer.explainers.conditioning import AbstractConditioning
from explainer.typing import Scores


class AbstractMaskExplainer(nn.Module, ABC):
    """One real score per token for the target; its sigmoid is AML's mask a in (0, 1).

    It never owns the explained model, which is passed to every call.

    Attributes:
        reads_ids: whether the batch's ids are enough for it; otherwise it reads `TokenBatch.texts`.
        label: the conditioning, which tells the network the target.
        head: the last layers, which give the scores: one per token, or one per token and label.
        settings: the constructor's arguments, as an export keeps them.
        forward_equivalents: the cost of the explanation on top of the prediction, in forward passes of the explained
            model.
        longest_text: tokens of the longest text that it was trained on; None where that is not known.
        edits_explained: whether it adds something to the explained model (adapters).
    """

    kind: ClassVar[str]
    edits_explained: ClassVar[bool] = False
    reads_ids: ClassVar[bool] = True
    label: AbstractConditioning
    head: nn.Sequential

    def __init__(self, explained: ExplainedModel, **settings: Any) -> None:
        super().__init__()
        self.check_explained(explained)
        self.settings = settings
        self.forward_equivalents = 1.0
        self.longest_text: int | None = None

    @torch.no_grad()
    def set_zero(self, middle: Mapping[int, Tensor]) -> None:
        """Move the zero of the scores, which keeps their order and distances in every text.

        Args:
            middle: {label: scores that it was given, of any texts}; their median becomes 0. A head that gives one score
                for all labels takes the median of all.
        """
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        bias = last.bias
        groups = middle if len(bias) > 1 else {0: torch.cat(list(middle.values()))}
        for label, scores in groups.items():
            bias[label] -= scores.median().to(bias)

    @classmethod
    def check_explained(cls, explained: ExplainedModel) -> None:
        """Refuse a model that such an explainer cannot explain.

        Raises:
            ValueError: with the explainer that can.
        """
        if not (explained.task.anchored or (explained.labels and explained.task.closed)):
            raise ValueError(
                f"`explained` has no closed list of labels (its task is {explained.task.name!r}), and the {cls.kind} "
                "explainer is trained for each label: responses are explained by `explainer: response`, or by a method "
                "without training, such as `attn_lrp` or `sig`."
            )

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        """Compare settings with the shapes of saved weights, before anything of their size is built.

        Raises:
            ValueError: when there is no such setting, it is out of range, or the weights have another size.
        """
        parameters = inspect.signature(cls).parameters
        if set(settings) != set(defaults_of(cls)):
            raise ValueError(
                f"The settings of the {cls.kind} explainer are {sorted(defaults_of(cls))}, got "
                f"{sorted(settings)!r:.200}."
            )
        for name, value in settings.items():
            if parameters[name].annotation is str:
                if not isinstance(value, str):
                    raise ValueError(f"`{name}` of the {cls.kind} explainer must be a string, got {value!r:.80}.")
            elif parameters[name].annotation is int:
                if type(value) is not int or value < 1:
                    raise ValueError(
                        f"`{name}` of the {cls.kind} explainer must be a positive integer, got {value!r:.80}."
                    )
            elif type(value) not in (int, float) or not 0 <= value < 1:
                raise ValueError(f"`{name}` of the {cls.kind} explainer must lie in [0, 1), got {value!r:.80}.")
        check_sizes(settings, cls.sizes(shapes))

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, int | None]:
        """The settings that the shapes of saved weights tell; None where a weight that tells one is not there."""
        return {}

    @property
    def reach(self) -> int | None:
        """Tokens of the longest text for which its scores can be relied on; None where no limit is known."""
        return None

    @abstractmethod
    def forward(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        """Scores (batch, seq) for the target, 0 where not scorable.

        Raises:
            ValueError: when the target is not the logit of one class: several questions, a foil, another score.
        """

    def predict_and_attribute(
        self, explained: ExplainedModel, batch: TokenBatch
    ) -> tuple[Readout, Callable[[Target], Scores]]:
        """The explained model's answer for the batch, and a function that gives the scores for any target.

        An explainer that reads what the prediction computes anyway overrides this: both then come from one pass.
        """
        with torch.no_grad():
            return explained(batch), partial(self, explained, batch)

    def trained(self, explained: ExplainedModel) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name: all that a checkpoint or an export holds."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def load_trained(self, explained: ExplainedModel, weights: Mapping[str, Tensor]) -> None:
        """Copy saved weights in.

        Raises:
            ValueError: when a weight is missing, unknown or of another shape.
        """
        parameters = self.trained(explained)
        if set(parameters) != set(weights):
            differing = sorted(set(parameters) ^ set(weights))
            raise ValueError(
                f"The saved weights and this explainer differ in {len(differing)} names, such as {differing[0]!r}."
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                if parameter.shape != weights[name].shape:
                    raise ValueError(
                        f"{name!r} has shape {tuple(weights[name].shape)} in the file, "
                        f"{tuple(parameter.shape)} in this explainer: it was trained for another explained model."
                    )
                parameter.copy_(weights[name])


def defaults_of(kind: type[AbstractMaskExplainer]) -> dict[str, Any]:
    """The settings of an explainer that is built without any."""
    return {name: one.default for name, one in inspect.signature(kind).parameters.items() if name != "explained"}


def in_place(batch: TokenBatch, scores: Scores, order: Tensor | None) -> Scores:
    """Scores of the right-padded batch in the batch's own columns: float32, and 0 where not scorable."""
    return batch.original_order(scores.float(), order).masked_fill(~batch.scorable, 0.0)
