"""Image classification: one logit per label, read from the class token of a vision transformer."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedModel

from explainer.explained.readout import Readout, precise
from explainer.explained.tasks.base import AbstractTask
from explainer.explained.tasks.labels import label_names


@dataclass(frozen=True)
class ImageClassification(AbstractTask):
    """A `...ForImageClassification` model.

    Args:
        names: of the labels, in the order of their indices.
    """

    name: ClassVar[str] = "image-classification"
    auto_model: ClassVar[Any] = AutoModelForImageClassification
    head: ClassVar[str] = "ForImageClassification"
    names: tuple[str, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> "ImageClassification":
        return cls(label_names(model.config))

    @property
    def labels(self) -> list[str]:
        return list(self.names)

    def read(self, output: Any, batch: Any) -> Readout:
        return Readout(precise(output.logits)[:, None], self.link)

    def read_share(self, batch: Any) -> Float[Tensor, "batch seq"]:
        raise ValueError("Image models are read at their class token, which is no patch: no patch is read directly.")
