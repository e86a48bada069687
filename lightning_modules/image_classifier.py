"""Train a small vision transformer from nothing: an image classifier to explain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import CONFIG_MAPPING, AutoModelForImageClassification, ViTImageProcessor

from explainer.explained.patches import read_image
from explainer.explained.pretrained import quiet
from lightning_modules.base import TrainingModule
from lightning_modules.data.text import TextExamples


class ImageClassifierTraining(TrainingModule):
    """A fresh vision transformer that learns the data's labels; accuracy on validation and test images.

    The data are files with a column of image paths, which takes the place of the text (`data.text: image`).

    Args:
        architecture: `model_type`, as transformers names it, and the sizes of its configuration.
        labels: the data's labels are these.
        learning_rate: the highest one of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
    """

    best_by = "validation/accuracy"

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
        if len(set(labels)) < max(len(labels), 2):
            raise ValueError(f"`labels` must name at least two classes, each once, got {labels}.")
        sizes = dict(architecture)
        kind = sizes.pop("model_type", None)
        if kind not in CONFIG_MAPPING:
            raise ValueError(f"`architecture` must name a `model_type` of transformers, got {kind!r}.")
        names = dict(enumerate(labels))
        named: dict[str, Any] = {"id2label": names, "label2id": {label: i for i, label in names.items()}}
        config = CONFIG_MAPPING[kind](**sizes, **named)
        self.model = AutoModelForImageClassification.from_config(config)
        self.processor = ViTImageProcessor(size={"height": config.image_size, "width": config.image_size})
        self.validation_accuracy, self.test_accuracy = MeanMetric(), MeanMetric()
        self._read: dict[str, Tensor] = {}

    def forward(self, examples: TextExamples) -> Float[Tensor, "batch labels"]:
        return self.model(pixel_values=self._pixels(examples.texts).to(self.device)).logits

    def _pixels(self, paths: Sequence[str]) -> Float[Tensor, "batch channels height width"]:
        """The images as the model reads them; each file is read once."""
        if new := [path for path in paths if path not in self._read]:
            images = [read_image(path, "`image`") for path in new]
            self._read |= dict(zip(new, self.processor(images, return_tensors="pt")["pixel_values"], strict=True))
        return torch.stack([self._read[path] for path in paths])

    def _classes(self, examples: TextExamples) -> Int64[Tensor, " batch"]:
        """The index of each image's label.

        Raises:
            ValueError: when there is no such label.
        """
        labels: list[str] = self.hparams["labels"]
        if unknown := [label for label in examples.labels if label not in labels]:
            raise ValueError(f"`labels` must name every label of the data, which has {unknown[0]!r}; got {labels}.")
        return torch.tensor([labels.index(label) for label in examples.labels], device=self.device)

    def training_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(examples).float(), self._classes(examples)) * self.share(len(examples))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(examples), sync_dist=True)
        return loss

    def _correct(self, examples: TextExamples) -> Float[Tensor, " batch"]:
        return (self(examples).argmax(dim=-1) == self._classes(examples)).float()

    def validation_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.validation_accuracy(self._correct(examples))
        self.log("validation/accuracy", self.validation_accuracy, prog_bar=True, batch_size=len(examples))

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.test_accuracy(self._correct(examples))
        self.log("test/accuracy", self.test_accuracy, batch_size=len(examples))

    def predict_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        return self(examples).softmax(dim=-1)

    def export(self, folder: Path) -> None:
        """Write the model and its image processor: a folder that `--model` can name."""
        with quiet():
            self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
