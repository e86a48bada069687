"""TextData and its batches: every text once, similar lengths together, the same order for the same epoch."""

import inspect
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import LightningModule, Trainer

from lightning_modules.baseline import BaselineTraining
from lightning_modules.classifier import ClassifierTraining
from lightning_modules.data.text import LengthBuckets, TextData, data_of
from lightning_modules.mask import MaskTraining


@given(st.lists(st.integers(1, 200), max_size=120), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_every_text_comes_once_in_batches_of_the_size(lengths: list[int], size: int, shuffle: bool, epoch: int) -> None:
    sampler = LengthBuckets(lengths, size, shuffle=shuffle, window=3)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert len(batches) <= len(sampler) + len(lengths) // (3 * size) + 1
    assert batches == list(sampler)


@given(
    st.lists(st.integers(1, 200), min_size=4, max_size=90),
    st.integers(4, 9),
    st.integers(1, 4),
    st.booleans(),
)
def test_processes_share_the_batches_of_one(lengths: list[int], size: int, processes: int, shuffle: bool) -> None:
    """In training each batch is divided; otherwise whole batches are dealt out, and every text comes once."""

    def of(rank: int, count: int, divide: bool) -> list[list[int]]:
        sampler = LengthBuckets(lengths, size, shuffle=shuffle, divide=divide, num_replicas=count, rank=rank)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        return batches

    divided = [of(rank, processes, True) for rank in range(processes)]
    for whole, *parts in zip(of(0, 1, True), *divided, strict=True):
        assert all(parts)
        assert set().union(*parts) == set(whole)
        assert sum(map(len, parts)) == max(len(whole), processes)
    dealt = [of(rank, processes, False) for rank in range(processes)]
    assert all(dealt)
    assert sorted(i for batches in dealt for batch in batches for i in batch) == list(range(len(lengths)))
    if len(lengths) >= size * processes:
        assert [dealt[i % processes][i // processes] for i in range(sum(map(len, dealt)))] == of(0, 1, False)


def test_more_processes_than_texts_are_refused() -> None:
    for options in ({"divide": True}, {"divide": False}):
        with pytest.raises(ValueError, match=r"2 texts in batches .* too few for 3 devices"):
            LengthBuckets([1, 1], 8, shuffle=False, num_replicas=3, **options)
    with pytest.raises(ValueError, match="`batch_size` 2 are too few for 3 devices"):
        LengthBuckets([1] * 9, 2, shuffle=False, num_replicas=3, divide=True)


def test_a_split_without_texts_is_named(files: dict[str, str], tmp_path: Path) -> None:
    data = TextData(files=files)
    data.setup()
    data.splits["train"] = data.splits["train"].select([])
    with pytest.raises(ValueError, match="The train split has no texts"):
        data.train_dataloader()


def test_epochs_differ_and_batches_hold_similar_lengths() -> None:
    lengths = [i % 50 for i in range(500)]
    sampler = LengthBuckets(lengths, 10, shuffle=True)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    spread = sum(max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in first) / len(first)
    assert spread < 3
    assert len(first) == len(sampler) == 50


def test_batches_of_a_classifier_do_not_hold_one_label_where_labels_go_with_the_length(
    classifier: str, tmp_path: Path
) -> None:
    rows = [{"text": "good " * (20 if label else 2), "label": label} for label in (0, 1)] * 64
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def labels_of_batches(module: LightningModule) -> list[set[int]]:
        data = TextData(files={"train": str(tmp_path / "texts.jsonl")}, batch_size=16)
        data.setup("fit")
        data.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        data.trainer.strategy.connect(module)
        return [set(batch.labels) for batch in data.train_dataloader()]

    assert labels_of_batches(ClassifierTraining(classifier, labels=["short", "long"], rank=2)) == [{0, 1}] * 8
    grouped = labels_of_batches(MaskTraining(explained=classifier, explainer="side", teachers={"attn_lrp": {}}))
    assert sorted(map(tuple, grouped)) == [(0,)] * 4 + [(1,)] * 4


def test_files_of_each_kind_give_the_same_examples(tmp_path: Path) -> None:
    from datasets import Dataset

    data = Dataset.from_dict({"premise": ["a b", "c"], "hypothesis": ["d", "e"], "gold": [1, 0]})
    data.to_csv(str(tmp_path / "d.csv"), index=False)
    data.to_json(str(tmp_path / "d.jsonl"))
    data.to_parquet(str(tmp_path / "d.parquet"))
    for name in ("d.csv", "d.jsonl", "d.parquet"):
        text = TextData(files={"test": str(tmp_path / name)}, text="premise", text_pair="hypothesis", label="gold")
        text.setup("test")
        (batch,) = list(text.test_dataloader())
        assert (batch.texts, batch.text_pairs, batch.labels) == (["c", "a b"], ["e", "d"], [0, 1])
        assert batch.index == [1, 0]


def test_labels_are_those_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps({"text": "x", "label": "good"}) + "\n")
    for label, expected in (("label", ["good"]), (None, [None])):
        text = TextData(files={"test": str(tmp_path / "d.jsonl")}, label=label)
        text.setup()
        assert text.examples("test").labels == expected


class Lengths:
    """Annotations of a split: the length of each text."""

    def __init__(self, data: TextData) -> None:
        self.texts = data.examples("train").texts

    def batch(self, index: list[int]) -> list[int]:
        return [len(self.texts[i]) for i in index]


def test_the_loader_gives_annotated_texts_until_the_run_ends(files: dict[str, str]) -> None:
    data = TextData(files=files, batch_size=8)
    data.setup()
    plain = list(data.train_dataloader())
    data.annotate("train", Lengths(data))
    assert list(data.train_dataloader()) == [[len(text) for text in batch.texts] for batch in plain]
    assert [batch.index for batch in data.val_dataloader()] == [list(batch.index) for batch in data.val_dataloader()]
    data.teardown()
    assert [batch.texts for batch in data.train_dataloader()] == [batch.texts for batch in plain]


def test_the_first_texts_are_at_most_all(files: dict[str, str]) -> None:
    data = TextData(files=files)
    data.setup()
    assert data.first("test", 3).index == [0, 1, 2]
    assert data.first("test", 100).texts == data.examples("test").texts


def test_a_run_on_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a `TextData`, got NoneType"):
        data_of(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False))


def test_limit_takes_the_first_texts(files: dict[str, str]) -> None:
    text = TextData(files=files, limit={"train": 5})
    text.setup()
    whole = TextData(files=files)
    whole.setup()
    assert text.examples("train").texts == whole.examples("train").texts[:5]
    assert len(text.splits["test"]) == len(whole.splits["test"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give `name`"),
        ({"name": "imdb", "files": {"train": "x.csv"}}, "Give `name`"),
        ({"name": "imbd"}, "`name` must be one of"),
        ({"files": {"dev": "x.csv"}}, "Splits are train, validation, test, got dev"),
        ({"name": "imdb", "limit": {"dev": 3}}, "Splits are"),
        ({"name": "imdb", "limit": {"train": -1}}, "`limit` of train must be at least 1, got -1"),
        ({"name": "imdb", "batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextData(**arguments)  # type: ignore[arg-type]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    for file, message in (("nothing.csv", "nothing.csv"), ("d.txt", "d.txt"), ("d.jsonl", "no column 'text'")):
        if file.startswith("d."):
            (tmp_path / file).write_text('{"sentence": "x"}\n')
        data = TextData(files={"train": str(tmp_path / file)})
        with pytest.raises(ValueError, match=message):
            data.setup()


def test_a_missing_split_is_named(files: dict[str, str]) -> None:
    data = TextData(files={"train": files["train"]})
    data.setup()
    with pytest.raises(ValueError, match="no validation split"):
        data.val_dataloader()


@pytest.mark.parametrize("module", [MaskTraining, BaselineTraining, ClassifierTraining])
def test_no_argument_has_a_module_s_name(module: type) -> None:
    """Lightning logs both as one table, and refuses a name that has two values: a module's `seed: 1` must train."""
    ours, theirs = (set(inspect.signature(kind).parameters) for kind in (TextData, module))
    assert "seed" in theirs or module is ClassifierTraining
    assert not ours & theirs
