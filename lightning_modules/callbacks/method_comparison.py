"""`explainer test`: the trained explainer and other methods on the held-out test texts, in one table."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from explainer.evaluation import table
from explainer.evaluation.comparison import AbstractComparison, MethodRow
from explainer.methods.loading import load_methods
from lightning_modules.data.text import TextExamples
from lightning_modules.explainer_training import AbstractExplainerTraining
from lightning_modules.loggers import log_table
from lightning_modules.processes import gathered


class MethodComparison(pl.Callback):
    """Compare methods with the explainer on every test batch.

    The processes of a test on several devices compare on batches of their own, and the table is that of all texts.

    Args:
        methods: {name: settings}, or {label: {method: name, ...settings}}, in addition to the explainer; by default
            some that fit what is explained.
        output: folder for comparison.json, comparison.csv and comparison.md; the trainer's log folder by default.
    """

    def __init__(self, methods: dict[str, dict[str, Any] | None] | None = None, output: str | None = None) -> None:
        self.methods = None if methods is None else load_methods(methods)
        self.output = output

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, AbstractExplainerTraining):
            raise ValueError("MethodComparison compares a trained mask explainer; this module trains something else.")
        others = load_methods({name: {} for name in pl_module.compared_with}) if self.methods is None else self.methods
        self.module, self.explained, ours = pl_module, pl_module.explained, pl_module.attributor.method
        self._methods, self._ours = {**others, ours.name: ours}, ours.name
        self._batches: list[dict[str, MethodRow]] = []

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TextExamples, *args: object
    ) -> None:
        comparison = self._new()
        comparison.update(self.explained, self.module.compared(batch))
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
        rows = [[cell.replace("\n", " ") for cell in row] for row in table.cells(comparison)]
        log_table(trainer.loggers, "test/comparison", table.head(comparison), rows, trainer.global_step)
        name = comparison.summary
        values = {f"test_{name}/{record['method']}": record[name]["mean"] for record in comparison.records()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _new(self) -> AbstractComparison[Any]:
        return self.module.comparison(self._methods, self._ours)
