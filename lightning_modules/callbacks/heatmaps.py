"""Heatmaps of the same few validation texts, after every validation: they sharpen as the explainer learns."""

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from explainer.rendering.plot import heatmap
from lightning_modules.data.text import TextData
from lightning_modules.mask import MaskTraining


class Heatmaps(pl.Callback):
    """Log a figure to TensorBoard (which strips HTML: a figure it must be).

    Args:
        n_texts: how many validation texts, the first ones.
        max_words: a longer text is folded to windows around its strongest words; null shows all of it.
    """

    def __init__(self, n_texts: int = 8, max_words: int | None = 60) -> None:
        self.n_texts, self.max_words = n_texts, max_words

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(trainer.logger, TensorBoardLogger) or not isinstance(pl_module, MaskTraining):
            return
        data: TextData = getattr(trainer, "datamodule")  # noqa: B009 - Trainer sets it late
        count = min(self.n_texts, len(data.splits["validation"]))
        examples = data.examples("validation", list(range(count)))
        figure = heatmap(pl_module.attributor(examples.texts, examples.text_pairs), max_words=self.max_words)
        trainer.logger.experiment.add_figure("validation/heatmaps", figure, global_step=trainer.global_step)
