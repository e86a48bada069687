"""Methods beside the explainer while it learns: faithfulness on validation texts, and their heatmaps."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from explainer.evaluation.comparison import SUMMARY, Comparison, targets
from explainer.explanation import Explanation
from explainer.methods.loading import methods_named
from explainer.methods.trained.amortized import Amortized
from explainer.rendering.plot import heatmap
from lightning_modules.callbacks.method_comparison import DEFAULT
from lightning_modules.data.text import TextData
from lightning_modules.mask import MaskTraining

TAG = "validation_faithfulness"


class MethodFaithfulness(pl.Callback):
    """Log `validation_faithfulness/LABEL` of every method and of the explainer, from before the first step on.

    The methods do not change in training: they are measured once, and their values are logged as level lines.

    Args:
        methods: {name: settings}, or {label: {method: name, ...settings}}, beside the explainer.
        n_texts: how many validation texts, the first ones.
        n_shown: of how many of them a figure shows the heatmaps of all methods, in TensorBoard.
        every_n_epochs: how often, in epochs; 0 for not by epochs.
        every_n_steps: how often, in optimizer steps; 0 for not by steps.
    """

    def __init__(
        self,
        methods: dict[str, dict[str, Any] | None] | None = None,
        n_texts: int = 100,
        n_shown: int = 4,
        every_n_epochs: int = 1,
        every_n_steps: int = 0,
    ) -> None:
        if n_texts < 1:
            raise ValueError(f"`n_texts` must be at least 1, got {n_texts}.")
        if every_n_epochs < 1 and every_n_steps < 1:
            raise ValueError("`every_n_epochs` and `every_n_steps` are both 0: the methods would never be measured.")
        self.methods = methods_named({name: {} for name in DEFAULT} if methods is None else methods)
        self.n_texts, self.n_shown = n_texts, n_shown
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, MaskTraining):
            raise ValueError("MethodFaithfulness belongs to the training of a mask explainer; this is another one.")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MaskTraining)
        data: TextData = getattr(trainer, "datamodule")  # noqa: B009 - Trainer sets it late
        count = min(self.n_texts, len(data.splits["validation"]))
        examples = data.examples("validation", list(range(count)))
        self.texts = pl_module.explained.encode(examples.texts, examples.text_pairs)
        self.target = targets(pl_module.explained, self.texts)
        self._measured_at = -1
        self.fixed = Comparison(self.methods, keep=self.n_shown)
        with torch.autocast(pl_module.device.type, enabled=False):
            self.fixed.update(pl_module.explained, self.texts, self.target)
        self._measure(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One point of every line at this step; nothing where this step has its points already."""
        assert isinstance(pl_module, MaskTraining)
        if self._measured_at == trainer.global_step:
            return
        self._measured_at = trainer.global_step
        ours = self._ours(pl_module)
        rows = {**self.fixed.rows, **ours.rows}
        values = {f"{TAG}/{label}": row.estimate(SUMMARY).mean for label, row in rows.items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
            if isinstance(logger, TensorBoardLogger) and self.n_shown:
                figure = heatmap(*self._shown(pl_module, ours))
                logger.experiment.add_figure(f"{TAG}/heatmaps", figure, global_step=trainer.global_step)

    def _ours(self, module: MaskTraining) -> Comparison:
        """The explainer as it is now, in full precision and without dropout."""
        training = module.explainer.training
        method = Amortized(module.explainer.eval())
        comparison = Comparison({method.name: method}, keep=self.n_shown)
        with torch.autocast(module.device.type, enabled=False):
            comparison.update(module.explained, self.texts, self.target)
        module.explainer.train(training)
        return comparison

    def _shown(self, module: MaskTraining, ours: Comparison) -> tuple[list[Explanation], list[str]]:
        """The first texts by every method, and what stands before each."""
        rows = {**self.fixed.rows, **ours.rows}
        texts = self.texts[: self.n_shown]
        probabilities = module.explained.predict([text.tokens for text in texts]).softmax(dim=-1)
        explanations, labels = [], []
        for i, text in enumerate(texts):
            for label, row in rows.items():
                target = int(self.target[i])
                explanations.append(module.attributor.explanation(text, row.scores[i], target, probabilities[i]))
                labels.append(label)
        return explanations, labels
