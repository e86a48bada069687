"""Heatmaps of the same few validation texts after every validation: they sharpen as the explainer learns."""

import pytorch_lightning as pl

from explainer.attributor import Attributor
from explainer.rendering.plot import heatmap
from lightning_modules.data.text import data_of
from lightning_modules.explainer_training import attributor_of
from lightning_modules.loggers import log_figure


class Heatmaps(pl.Callback):
    """Log a figure to every logger.

    Args:
        n_texts: how many validation texts, the first ones.
        max_words: a longer text is folded to windows around its strongest words; null shows all of it.
    """

    def __init__(self, n_texts: int = 8, max_words: int | None = 60) -> None:
        self.n_texts, self.max_words = n_texts, max_words

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        attributor = attributor_of(pl_module)
        if not isinstance(attributor, Attributor) or not trainer.loggers or not trainer.is_global_zero:
            return
        examples = data_of(trainer).first("validation", self.n_texts)
        figure = heatmap(attributor(examples.texts, examples.text_pairs), max_words=self.max_words)
        log_figure(trainer.loggers, "validation/heatmaps", figure, trainer.global_step)
