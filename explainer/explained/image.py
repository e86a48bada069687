"""The frozen image classifier being explained. Its patches play the part of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from explainer.explained.base import AbstractExplained
from explainer.explained.passes import EmbeddingEdit, edit_output
from explainer.explained.pretrained import check_complete, config_of, model_of, reading
from explainer.explained.readout import Readout, Target

_NO_TOKENS = "`{}` has no `{}`: images have no tokens. The methods that explain images are `attn_lrp` and `cp_lrp`."


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Several images of one size; every patch may be scored."""

    pixel_values: Float[Tensor, "batch channels height width"]
    scorable: Bool[Tensor, "batch seq"]

    def __len__(self) -> int:
        return len(self.pixel_values)

    def right_padded(self) -> "tuple[ImageBatch, None]":
        """Images have no padding."""
        return self, None

    def original_order(self, values: Tensor, order: Tensor | None) -> Tensor:
        return values

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_NO_TOKENS.format("ImageBatch", name))

    def with_pixels(self, pixel_values: Tensor) -> "ImageBatch":
        return replace(self, pixel_values=pixel_values)


class ExplainedImageModel(AbstractExplained):
    """A Hugging Face vision transformer with a classification head (ViT, DeiT and their like).

    Args:
        model: a `...ForImageClassification`; its parameters stop requiring gradients.
        processor: turns images into pixel values; None when pixel values are given.
        name: a hub id or model folder.
    """

    def __init__(self, model: PreTrainedModel, processor: Any = None, *, name: str | None = None) -> None:
        super().__init__(model, name)
        self.processor = processor

    @classmethod
    def from_pretrained(cls, name: str | Path, *, dtype: torch.dtype = torch.float32) -> "ExplainedImageModel":
        """Load an image classifier and its processor from a hub id or a model folder.

        Raises:
            ValueError: when there is no such model, a part of it is missing, or its files are broken.
        """
        source = str(name)
        model, missing = model_of(AutoModelForImageClassification, source, config_of(source), dtype)
        check_complete(source, missing)
        with reading(source):
            processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        return cls(model, processor, name=source)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise AttributeError(_NO_TOKENS.format("ExplainedImageModel", name)) from None

    @property
    def embedding(self) -> nn.Module:
        """The module whose output is the patch embeddings (batch, patches, hidden)."""
        return self.model.base_model.get_input_embeddings()

    def encode(self, images: Sequence[Any]) -> ImageBatch:
        """Images (PIL or arrays) as one batch.

        Raises:
            ValueError: when the model came without a processor.
        """
        if self.processor is None:
            raise ValueError("`processor` is needed to read images; without one, pass pixel values to `collate`.")
        return self.collate(self.processor(list(images), return_tensors="pt")["pixel_values"])

    def collate(self, pixel_values: Float[Tensor, "batch channels height width"]) -> ImageBatch:
        """Pixel values as a batch on the model's device."""
        moved = pixel_values.to(self.device, self.model.dtype)
        with torch.no_grad():
            patches = self.embedding(moved).shape[1]
        return ImageBatch(moved, torch.ones(len(moved), patches, dtype=torch.bool, device=self.device))

    def forward(self, batch: ImageBatch, edit: EmbeddingEdit | None = None, target: Target | None = None) -> Readout:
        """What the task reads; `edit` maps the patch embeddings (batch, patches, hidden) to those used instead."""
        with edit_output(self.embedding, edit):
            return self.task.read(self.model(pixel_values=batch.pixel_values), batch)
