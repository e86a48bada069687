"""Train a small vision transformer from nothing: an image classifier to explain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForImageClassification

from explainer.explained.patches import read_image
from explainer.explained.pretrained import quiet
from explainer.explained.tasks.labels import named_labels
from lightning_modules.answering import AbstractAnswering, family_of
from lightning_modules.data.text import TextExamples
from lightning_modules.heads import Gold, check_labels


class ImageClassifierTraining(AbstractAnswering):
    """A fresh vision transformer that learns the data's labels; accuracy on validation and test images.

    The data are files with a column of image paths, which takes the place of the text (`data.text: image`).

    Args:
        architecture: `model_type`, as transformers names it, and the sizes of its configuration.
        labels: the data's labels are these.
        learning_rate: the highest one of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
    """

    def __init__(
        self,
        architecture: dict[str, Any],
        labels: list[str],
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        check_labels(labels)
        family, sizes = family_of(architecture)
        config = family(**sizes, **named_labels(labels))
        self.model = AutoModelForImageClassification.from_config(config)
        with quiet():  # transformers advises torchvision on the first use of the class
            processor = transformers.ViTImageProcessor
        self.processor = processor(size={"height": config.image_size, "width": config.image_size})
        self._read: dict[str, Tensor] = {}

    def forward(self, examples: TextExamples) -> Float[Tensor, "batch labels"]:
        return self.model(pixel_values=self._pixels(examples.texts).to(self.device)).logits

    def _pixels(self, paths: Sequence[str]) -> Float[Tensor, "batch channels height width"]:
        """The images as the model reads them; each file is read once."""
        if new := [path for path in paths if path not in self._read]:
            images = [read_image(path, "`image`") for path in new]
            self._read |= dict(zip(new, self.processor(images, return_tensors="pt")["pixel_values"], strict=True))
        return torch.stack([self._read[path] for path in paths])

    def _answers(self, examples: TextExamples) -> tuple[Float[Tensor, "batch 1 labels"], Gold]:
        labels: list[str] = self.hparams["labels"]
        if unknown := [label for label in examples.labels if label not in labels]:
            raise ValueError(f"`labels` must name every label of the data, which has {unknown[0]!r}; got {labels}.")
        right = torch.tensor([[labels.index(label)] for label in examples.labels], device=self.device)
        return self(examples)[:, None], right

    def export(self, folder: Path) -> None:
        """Write the model and its image processor: a folder that `--model` can name."""
        with quiet():
            self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
