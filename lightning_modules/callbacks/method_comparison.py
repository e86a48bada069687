"""`explainer test`: the trained explainer and other methods on the held-out test texts, in one table."""

from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console

from explainer.evaluation import table
from explainer.evaluation.comparison import SUMMARY, Comparison, MethodRow
from explainer.methods.loading import load_methods
from lightning_modules.base import attributor_of
from lightning_modules.data.text import TextExamples
from lightning_modules.processes import gathered

DEFAULT = ("random", "input_x_gradient", "integrated_gradients", "attn_lrp", "sig")


class MethodComparison(pl.Callback):
    """Compare methods with the explainer on every test batch.

    The processes of a test on several devices compare on batches of their own, and the table is that of all texts.

    Args:
        methods: {name: settings}, or {label: {method: name, ...settings}}, in addition to the explainer.
        output: folder for comparison.json, comparison.csv and comparison.md; the trainer's log folder by default.
    """

    def __init__(self, methods: dict[str, dict[str, Any] | None] | None = None, output: str | None = None) -> None:
        self.methods = load_methods({name: {} for name in DEFAULT} if methods is None else methods)
        self.output = output

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        attributor = attributor_of(pl_module)
        if attributor is None:
            raise ValueError("MethodComparison compares a trained mask explainer; this module trains something else.")
        self.explained, ours = attributor.explained, attributor.method
        self._new = partial(Comparison, {**self.methods, ours.name: ours}, ours=ours.name)
        self._batches: list[dict[str, MethodRow]] = []

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TextExamples, *args: object
    ) -> None:
        texts = self.explained.encode(batch.texts, batch.text_pairs)
        comparison = self._new()
        comparison.update(self.explained, texts, self.explained.predicted(texts))
        self._batches.append(comparison.rows)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        everyone = gathered(self._batches)
        folder = Path(self.output or trainer.log_dir or trainer.default_root_dir)  # all processes ask for `log_dir`
        if not trainer.is_global_zero:
            return
        comparison = self._new()
        for batches in zip_longest(*everyone):  # the batches were dealt out in turn
            for rows in filter(None, batches):
                comparison.add(rows)
        Console().print(table.terminal(comparison))
        table.write(comparison, folder)
        if isinstance(trainer.logger, TensorBoardLogger):
            board = trainer.logger.experiment
            board.add_text("test/comparison", table.markdown(comparison))
            for record in comparison.records():
                board.add_scalar(f"test_{SUMMARY}/{record['method']}", record[SUMMARY]["mean"], trainer.global_step)
