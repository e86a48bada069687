"""`explainer test`: the trained explainer beside other methods on the held-out test texts, in one table."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console

from explainer.evaluation.comparison import SUMMARY, Comparison, targets
from explainer.methods.loading import methods_named
from explainer.methods.trained.amortized import Amortized
from lightning_modules.data.text import TextExamples
from lightning_modules.mask import MaskTraining

DEFAULT = ("random", "input_x_gradient", "integrated_gradients", "attn_lrp", "sig")


class MethodComparison(pl.Callback):
    """Compare methods with the explainer on every test batch.

    Args:
        methods: {name: settings}, or {label: {method: name, ...settings}}, beside the explainer.
        output: folder for comparison.json, comparison.csv and comparison.md; the trainer's log folder by default.
    """

    def __init__(self, methods: dict[str, dict[str, Any] | None] | None = None, output: str | None = None) -> None:
        self.methods = methods_named({name: {} for name in DEFAULT} if methods is None else methods)
        self.output = output

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, MaskTraining):
            raise ValueError("MethodComparison compares a trained mask explainer; this module trains something else.")
        self.explained = pl_module.explained
        ours = Amortized(pl_module.explainer.eval())
        self.comparison = Comparison({**self.methods, ours.name: ours}, ours=ours.name)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TextExamples, *args: object
    ) -> None:
        texts = self.explained.encode(batch.texts, batch.text_pairs)
        self.comparison.update(self.explained, texts, targets(self.explained, texts))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Console().print(self.comparison.table())
        folder = Path(self.output or trainer.log_dir or trainer.default_root_dir)
        self.comparison.write(folder)
        if isinstance(trainer.logger, TensorBoardLogger):
            board = trainer.logger.experiment
            board.add_text("test/comparison", self.comparison.markdown())
            for record in self.comparison.records():
                board.add_scalar(f"test_{SUMMARY}/{record['method']}", record[SUMMARY]["mean"], trainer.global_step)
