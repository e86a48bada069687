"""What the trainings of explainers share: settings and checkpoints of the explainer, and its comparison in a test."""

from collections.abc import Collection, Mapping, Sized
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from explainer.attributor.base import AbstractAttributor
from explainer.evaluation.comparison import AbstractComparison, Comparison, TargetedTexts
from explainer.explained import ExplainedModel
from explainer.explained.weights import Shapes
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer
from explainer.explainers.base import defaults_of
from explainer.methods.base import AbstractMethod
from explainer.typing import Scores
from lightning_modules.base import TrainingModule
from lightning_modules.data.text import TextExamples
from lightning_modules.schedule import Weight, check_weight, weight_at
from lightning_modules.teachers import Teachers


class AbstractExplainerTraining(TrainingModule):
    """A training of an explainer, whose hyper-parameters `explainer` and `explainer_settings` say which one.

    Attributes:
        compared_with: the methods that `explainer test` compares the explainer with, unless others are named.
        explained: the explained model, which stays as it is.
        explainer: the network that is trained.
        teachers: the methods whose scores it matches; there may be none.
        weights: of each term of the loss, over the training.
    """

    compared_with: ClassVar[tuple[str, ...]] = ("random", "input_x_gradient", "integrated_gradients", "attn_lrp", "sig")
    explained: ExplainedModel
    explainer: AbstractMaskExplainer
    teachers: Teachers
    weights: Mapping[str, Weight]

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        own = {name.removeprefix("explainer."): shape for name, shape in shapes.items()}
        kind, given = EXPLAINERS[settings["explainer"]], settings["explainer_settings"] or {}
        kind.check_settings({**defaults_of(kind), **given}, own)

    @property
    def attributor(self) -> AbstractAttributor:
        """The attributor that is trained, as it is now."""
        raise NotImplementedError

    def comparison(self, methods: Mapping[str, AbstractMethod], ours: str) -> AbstractComparison[Any]:
        """How the trained explainer is compared with other methods.

        Args:
            methods: by label, `ours` among them.
        """
        return Comparison(methods, ours)

    def compared(self, examples: TextExamples) -> Sized:
        """What the methods explain of a batch of test texts: the items of `comparison`."""
        texts = self.explained.encode(examples.texts, examples.text_pairs)
        return TargetedTexts(*self.explained.asked(texts))

    def set_weights(self, **weights: Weight) -> None:
        """Name the terms of the loss, and their weights.

        Raises:
            ValueError: when a weight is negative, or its points are not in the order of progress.
        """
        for name, weight in weights.items():
            check_weight(name, weight)
        self.weights = weights

    def scored(self, batch: Any) -> Scores:
        """The scores of a training batch, with their graph."""
        raise NotImplementedError

    def losses(self, scores: Scores, batch: Any, wanted: Collection[str]) -> dict[str, Tensor]:
        """The wanted terms of the loss, each unweighted."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores, weights = self.scored(batch), self._weights_now()
        losses = self.losses(scores, batch, {name for name, weight in weights.items() if weight > 0})
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        agreement = self.teachers.agreement(scores.detach(), batch)
        share = self.share(len(batch))
        values = losses | {f"agreement_{name}": value for name, value in agreement.items()}
        self.log("train/loss", share * loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        self.log_dict(
            {f"train/{name}": share * value for name, value in values.items()}, batch_size=len(batch), sync_dist=True
        )
        return share * loss

    def _weights_now(self) -> dict[str, float]:
        """The weight of every loss at this step.

        Raises:
            ValueError: when all are 0.
        """
        progress = self.global_step / max(int(self.trainer.estimated_stepping_batches), 1)
        weights = {name: weight_at(weight, progress) for name, weight in self.weights.items()}
        if not any(weights.values()):
            raise ValueError(
                f"Every loss weight is 0 at progress {progress:.2f} of the training: nothing to learn from."
            )
        return weights

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        """Nothing: the callback `MethodComparison` compares the explainer with other methods."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["longest_text"] = self.explainer.longest_text

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.explainer.longest_text = checkpoint.get("longest_text")


def attributor_of(module: pl.LightningModule) -> AbstractAttributor | None:
    """The attributor that a module trains; None where it trains something else."""
    return module.attributor if isinstance(module, AbstractExplainerTraining) else None
