"""What the trainings of models to be explained share: questions with one right choice each, and their accuracy."""

from abc import ABC, abstractmethod
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import CONFIG_MAPPING, PretrainedConfig

from lightning_modules.base import TrainingModule
from lightning_modules.data.text import TextExamples
from lightning_modules.heads import UNASKED, Gold


class AbstractAnswering(TrainingModule, ABC):
    """A training by cross-entropy; accuracy on validation and test inputs, whose every question must be right.

    Args:
        learning_rate: the highest one of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
    """

    best_by = "validation/accuracy"
    group_by_length = False  # where labels go with the length, such a batch would hold one label alone

    def __init__(self, learning_rate: float, weight_decay: float, warmup: float) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.validation_accuracy, self.test_accuracy = MeanMetric(), MeanMetric()

    @abstractmethod
    def _answers(self, examples: TextExamples) -> tuple[Float[Tensor, "batch questions choices"], Gold]:
        """The logits, and the right choices.

        Raises:
            ValueError: when a label of the data is none of the model's.
        """

    def _correct(self, examples: TextExamples) -> Float[Tensor, " batch"]:
        """1 for each input whose every question is answered right, else 0."""
        logits, gold = self._answers(examples)
        return ((logits.argmax(dim=-1) == gold) | (gold == UNASKED)).all(dim=1).float()

    def training_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        logits, gold = self._answers(examples)
        of_each = F.cross_entropy(logits.float().flatten(0, 1), gold.flatten(), ignore_index=UNASKED)
        loss = of_each * self.share(len(examples))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(examples), sync_dist=True)
        return loss

    def validation_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.validation_accuracy(self._correct(examples))
        self.log("validation/accuracy", self.validation_accuracy, prog_bar=True, batch_size=len(examples))

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.test_accuracy(self._correct(examples))
        self.log("test/accuracy", self.test_accuracy, batch_size=len(examples))

    def predict_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        return self(examples).softmax(dim=-1)


def family_of(architecture: dict[str, Any]) -> tuple[type[PretrainedConfig], dict[str, Any]]:
    """The configuration's class of `model_type`, and the other entries of an architecture.

    Raises:
        ValueError: when transformers has no such family.
    """
    sizes = dict(architecture)
    kind = sizes.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"`architecture` must name a `model_type` of transformers, got {kind!r}.")
    return CONFIG_MAPPING[kind], sizes
