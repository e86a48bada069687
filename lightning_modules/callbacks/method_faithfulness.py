"""Methods and the explainer while it learns: faithfulness on validation texts, and heatmaps next to each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn

from explainer.attributor import Attributor
from explainer.evaluation.comparison import SUMMARY, Comparison, TargetedTexts
from explainer.explanation import Explanation
from explainer.methods.loading import load_methods
from explainer.rendering.plot import heatmap
from lightning_modules.data.text import data_of
from lightning_modules.explainer_training import AbstractExplainerTraining, attributor_of
from lightning_modules.loggers import log_figure

TAG = "validation_faithfulness"


class MethodFaithfulness(pl.Callback):
    """Log `validation_faithfulness/LABEL` of every method and of the explainer, from before the first step on.

    The methods do not change in training: they are measured once, and their values are logged as level lines.

    Args:
        methods: {name: settings}, or {label: {method: name, ...settings}}, in addition to the explainer.
        n_texts: how many validation texts, the first ones.
        n_shown: of how many of them a figure shows the heatmaps of all methods.
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
        self.methods = load_methods(
            {name: {} for name in AbstractExplainerTraining.compared_with} if methods is None else methods
        )
        self.n_texts, self.n_shown = n_texts, n_shown
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(attributor_of(pl_module), Attributor):
            raise ValueError(
                "MethodFaithfulness belongs to the training of a mask explainer of labels; this is another one."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        attributor = attributor_of(pl_module)
        assert isinstance(attributor, Attributor)
        self._measured_at = -1
        if not trainer.is_global_zero:
            return
        examples = data_of(trainer).first("validation", self.n_texts)
        self.attributor = attributor
        texts = attributor.explained.encode(examples.texts, examples.text_pairs)
        self.texts, self.target = attributor.explained.asked(texts)
        self.fixed = Comparison(self.methods, keep=self.n_shown)
        with evaluating(pl_module):
            self.fixed.update(attributor.explained, TargetedTexts(self.texts, self.target))
        self._measure(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log one point of every line at this step, in the first process, unless the step has its points already."""
        if self._measured_at == trainer.global_step or not trainer.is_global_zero:
            return
        self._measured_at = trainer.global_step
        method = self.attributor.method
        ours = Comparison({method.name: method}, keep=self.n_shown)
        with evaluating(pl_module):
            ours.update(self.attributor.explained, TargetedTexts(self.texts, self.target))
        rows = {**self.fixed.rows, **ours.rows}
        values = {f"{TAG}/{label}": row.estimate(SUMMARY).mean for label, row in rows.items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        if trainer.loggers and self.n_shown:
            scores = {label: row.scores for label, row in rows.items()}
            figure = heatmap(*self._shown(self.attributor, scores))
            log_figure(trainer.loggers, f"{TAG}/heatmaps", figure, trainer.global_step)

    def _shown(
        self, attributor: Attributor, scores: dict[str, list[torch.Tensor]]
    ) -> tuple[list[Explanation], list[str]]:
        """The first texts by every method, and the label in front of each."""
        explained, texts = attributor.explained, self.texts[: self.n_shown]
        readout = explained.predict([text.tokens for text in texts])
        explanations, labels = [], []
        for i, text in enumerate(texts):
            one, target = readout[i : i + 1], self.target[i : i + 1]
            for label, rows in scores.items():
                explanations.append(Explanation.of(explained, text, rows[i], target, one, label))
                labels.append(label)
        return explanations, labels


@contextmanager
def evaluating(module: pl.LightningModule) -> Iterator[None]:
    """Full precision and no dropout inside the block; every part of the module is in its former mode afterwards.

    Random generators are in their former states, too: a method that draws from them does not change the training.
    """
    modes: dict[nn.Module, bool] = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with isolate_rng(), torch.autocast(module.device.type, enabled=False):
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
