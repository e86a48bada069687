"""Some texts of a data set, by a name of the catalog or from a file."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from explainer.data.catalog import CATALOG, load
from explainer.data.files import KINDS, load_files, place_of


def texts_of(
    data: str, split: str, n: int, seed: int | None, text: str, text_pair: str | None
) -> tuple[list[str], list[str | None], list[int], str]:
    """The texts, their second texts, their rows in the data, and a line that says which they are."""
    rows, name = rows_of(data, split, text, text_pair)
    places, words = chosen(len(rows), n, seed, name)
    found = rows[places]
    return found["text"], found.get("text_pair", [None] * n), places, words


def labels_of(data: str, split: str, text: str, label: str, rows: list[int]) -> list[Any]:
    """The labels of some rows of a data set.

    Args:
        label: their column in a file; of a data set of the catalog it is `label`.

    Raises:
        ValueError: when there is no such data, split or column.
    """
    found, name = rows_of(data, split, text, None, label=label)
    if "label" not in found.column_names:
        raise ValueError(f"{name} has no labels.")
    return found[rows]["label"]


def chosen(count: int, n: int, seed: int | None, name: str) -> tuple[list[int], str]:
    """The places of `n` of `count` texts, the first ones or drawn by a seed, and a line that says which they are.

    Raises:
        ValueError: when there are not so many.
    """
    if not 1 <= n <= count:
        raise ValueError(f"`--n` must be from 1 to {count}, the texts of {name}, got {n}.")
    if seed is None:
        return list(range(n)), f"{name} (the first {n} of {count})"
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:n]
    return sorted(drawn.tolist()), f"{name} ({n} drawn by seed {seed} of {count})"


def rows_of(
    data: str, split: str, text: str, text_pair: str | None, id: str | None = None, label: str | None = None
) -> tuple[Dataset, str]:
    """All rows of a data set, columns text, and text_pair, label and id (where there are any), and its name.

    They stay on the disk until they are asked for.

    Raises:
        ValueError: when there is no such data, split or column.
    """
    if data in CATALOG:
        if id is not None:
            raise ValueError(f"`--id` is a column of a file; the rows of {data} are numbered.")
        splits = load(data)
        if split not in splits:
            raise ValueError(f"`--split` must be one of {', '.join(splits)}, got {split!r}.")
        return splits[split], f"the {split} split of {data}"
    if Path(data).is_file():
        return load_files({"all": data}, text, text_pair, label, id)["all"], data
    raise ValueError(f"`--data` must be one of {', '.join(CATALOG)}, or an existing {KINDS} file, got {data!r}.")


def name_of_row(data: str, split: str, text: str, row: int) -> str:
    """Where a row of a data set is, in words: file and line, or its number from 0."""
    if data in CATALOG:
        return f"row {row} of the {split} split of {data}"
    return place_of(Path(data), row, {"text": text})
