"""Image classification: one logit per label, read from the class token of a vision transformer."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedModel

from explainer.explained.batch import TokenBatch
from explainer.explained.readout import Readout, precise
from explainer.explained.tasks.base import AbstractTask
from explainer.explained.tasks.labels import label_names


@dataclass(frozen=True)
class ImageClassification(AbstractTask):
    """A `...ForImageClassification` model.

    Args:
        names: of the labels, in the order of their indices.
        reads_class_token: whether the head reads the class token alone (ViT, DeiT), and not patches (DINOv2).
    """

    name: ClassVar[str] = "image-classification"
    auto_model: ClassVar[Any] = AutoModelForImageClassification
    head: ClassVar[str] = "ForImageClassification"
    names: tuple[str, ...]
    reads_class_token: bool = True

    @classmethod
    def of(cls, model: PreTrainedModel) -> "ImageClassification":
        return cls(label_names(model.config))

    @property
    def labels(self) -> list[str]:
        return list(self.names)

    def read(self, output: Any, batch: Any) -> Readout:
        return Readout(precise(output.logits)[:, None], self.link)

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        if not self.reads_class_token:
            raise ValueError(
                "The head of this image model reads more than the class token, such as the mean of the patches, so "
                "attention has no single place to be read at: take `attn_lrp`, `sig` or `integrated_gradients`."
            )
        share = torch.zeros(batch.input_ids.shape, device=batch.device)
        share[:, 0] = 1.0
        return share
