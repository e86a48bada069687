"""What the trainings of explainers share: settings and checkpoints of the explainer, and its comparison in a test."""

from collections.abc import Mapping, Sized
from typing import Any, ClassVar

import pytorch_lightning as pl

from explainer.attributor.base import AbstractAttributor
from explainer.evaluation.comparison import AbstractComparison, Comparison, TargetedTexts
from explainer.explained import ExplainedModel
from explainer.explained.weights import Shapes
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer
from explainer.explainers.base import defaults_of
from explainer.methods.base import AbstractMethod
from lightning_modules.base import TrainingModule
from lightning_modules.data.text import TextExamples


class AbstractExplainerTraining(TrainingModule):
    """A training of an explainer, whose hyper-parameters `explainer` and `explainer_settings` say which one.

    Attributes:
        compared_with: the methods that `explainer test` compares the explainer with, unless others are named.
        explained: the explained model, which stays as it is.
        explainer: the network that is trained.
    """

    compared_with: ClassVar[tuple[str, ...]] = ("random", "input_x_gradient", "integrated_gradients", "attn_lrp", "sig")
    explained: ExplainedModel
    explainer: AbstractMaskExplainer

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
