"""The work of `explainer predict`: a data set explained shard by shard, by any number of processes.

Each process loads the attributor and the data by itself, so that nothing is sent. The missing shards are dealt out to
the processes in turn. Lightning's sampler is not used: it repeats rows to make all shares equal.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pytorch_lightning as pl
from datasets import Dataset
from torch.utils.data import DataLoader

from explainer.attributor import Attributor
from explainer.commands.encoding import encode_all
from explainer.commands.loading import load_attributor, of_texts
from explainer.data.texts import name_of_row, rows_of
from explainer.explained import AbstractTask, PromptedClassification, ZeroShotClassification
from explainer.explained.pretrained import DTYPES
from explainer.explained.readout import Score
from explainer.explanation import Explanation
from explainer.scored_text import UnitLevel
from explainer.storage.shards import Shards, table_of
from lightning_modules.quiet import silence


@dataclass(frozen=True)
class Source:
    """The rows that are explained, and the data that they come from."""

    data: str
    split: str
    text: str
    text_pair: str | None
    id: str | None
    n: int | None

    def rows(self) -> Dataset:
        """Columns text, and text_pair and id where there are any; read from the disk as they are needed.

        Raises:
            ValueError: when there is no such data, split or column, or fewer rows than wanted.
        """
        rows, name = rows_of(self.data, self.split, self.text, self.text_pair, self.id)
        if self.n is not None and self.n > len(rows):
            raise ValueError(f"`--n` must be at most {len(rows)}, the texts of {name}, got {self.n}.")
        rows = rows.select_columns([name for name in ("id", "text", "text_pair") if name in rows.column_names])
        return rows if self.n is None else rows.select(range(self.n))

    def name_of_row(self, row: int) -> str:
        """Where a row is, in words."""
        return name_of_row(self.data, self.split, self.text, row)


@dataclass(frozen=True)
class AttributorSpec:
    """A method and the model that it explains, by name.

    Attributes:
        settings: of the method, as JSON.
        prompt: what a language model is asked, as JSON.
        dtype: of the model's weights, by its name; by default float32, or that of the exported attributor's training.
        zero_shot: settings of a zero-shot classification, as JSON.
    """

    method: str
    model: str | None
    batch_tokens: int
    settings: str = "{}"
    prompt: str | None = None
    dtype: str | None = None
    zero_shot: str | None = None

    def load(self) -> Attributor:
        """The attributor, which one process loads once."""
        return _loaded(self)

    @staticmethod
    def forget() -> None:
        """Free the memory of the attributor that was loaded last."""
        _loaded.cache_clear()


@lru_cache(maxsize=1)
def _loaded(spec: AttributorSpec) -> Attributor:
    task: AbstractTask | None = None
    if spec.prompt is not None:
        task = PromptedClassification.of(json.loads(spec.prompt))
    elif spec.zero_shot is not None:
        task = ZeroShotClassification.from_settings(json.loads(spec.zero_shot))
    dtype = None if spec.dtype is None else DTYPES[spec.dtype]
    settings = json.loads(spec.settings)
    return of_texts(spec.method, load_attributor(spec.method, spec.model, spec.batch_tokens, settings, task, dtype))


@dataclass(frozen=True)
class Question:
    """What is explained of every row; the fields are options of a call of the attributor."""

    target: str | int = "predicted"
    foil: str | int | None = None
    score: Score = "logit"
    units: UnitLevel | None = None

    def settings(self, task: AbstractTask) -> dict[str, Any]:
        """The question as JSON, labels by their indices.

        Raises:
            ValueError: when a label is unknown, or the foil is the target.
        """
        target = task.target(self.target, 1, self.foil, self.score)
        settings: dict[str, Any] = {"target": target.choices[0].tolist()[0]}
        settings |= {} if target.foil is None else {"foil": target.foil[0].tolist()[0]}
        settings |= {} if self.score == "logit" else {"score": self.score}
        return settings | ({} if self.units is None else {"units": self.units})


class Attribution(pl.LightningModule):
    """Explains one shard per step."""

    # Of five devices and three missing shards, two devices have nothing to do.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(self, spec: AttributorSpec, source: Source, shards: Shards, question: Question) -> None:
        super().__init__()
        self.spec, self.source, self.shards, self.question = spec, source, shards, question
        self.missing: list[int] = []

    def setup(self, stage: str) -> None:
        silence()  # a spawned process has not come through `cli.main`
        self.attributor = self.spec.load().to(self.trainer.strategy.root_device)
        self.rows = self.source.rows()
        # One list for all processes: a fast one may write its first shard before a slow one looks.
        first = self.trainer.strategy.is_global_zero
        self.missing = self.trainer.strategy.broadcast(self.shards.missing() if first else [])

    def predict_dataloader(self) -> DataLoader:
        own = self.missing[self.global_rank :: self.trainer.world_size]
        return DataLoader(own, batch_size=None, collate_fn=int)  # type: ignore[arg-type]

    def predict_step(self, shard: int, batch_idx: int) -> tuple[int, pa.Table]:
        span = self.shards.span(shard)
        rows = self.rows[span.start : span.stop]
        try:
            explanations = self._explained(rows["text"], rows.get("text_pair"))
        except ValueError as error:
            self._name_unreadable(rows, span)
            raise ValueError(f"In the rows from {span.start} to {span.stop - 1}: {error}") from error
        limit = self.attributor.explained.text.max_tokens
        ids = pa.array(rows["id"], self._id_type()) if "id" in rows else pa.array(span, pa.int64())
        return shard, table_of(ids, explanations, [is_truncated(one, limit) for one in explanations])

    def _explained(self, texts: list[str], pairs: list[str | None] | None) -> list[Explanation]:
        with warnings.catch_warnings():
            # The column `truncated` marks these texts: a warning for each would drown the progress bar.
            warnings.filterwarnings("ignore", message=r"Text \d+ has \d+ tokens, the model takes")
            return self.attributor(texts, pairs, **asdict(self.question))

    def _name_unreadable(self, rows: dict[str, list[Any]], span: range) -> None:
        """Raise a ValueError that names the first row that the model cannot read; nothing where it can read all."""
        pairs = rows.get("text_pair", [None] * len(span))
        encode_all(self.attributor.explained, rows["text"], pairs, lambda i: self.source.name_of_row(span[i]))

    def _id_type(self) -> pa.DataType:
        return self.rows.features.arrow_schema.field("id").type

    def teardown(self, stage: str) -> None:
        self.trainer.strategy.barrier()  # every shard exists when `trainer.predict` returns in any process


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
    """Whether the text continues after the last token that the model, which takes `limit` tokens, has read."""
    if limit is None or len(explanation.tokens) < limit:
        return False
    texts: Sequence[str] = (explanation.text, explanation.text_pair or "")
    ends = [0, 0]
    for (_, end), segment in zip(explanation.offsets, explanation.segments, strict=True):
        ends[segment] = max(ends[segment], end)
    return any(end < len(text.rstrip()) for end, text in zip(ends, texts, strict=True))
