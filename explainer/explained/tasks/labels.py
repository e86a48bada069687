"""What the tasks with a closed list of labels share."""

from collections.abc import Sequence
from typing import Any


def label_names(config: Any) -> tuple[str, ...]:
    """The names of the labels in the order of their indices; names that are no strings are written as such."""
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))


def named_labels(labels: Sequence[str]) -> dict[str, Any]:
    """The entries of a configuration that name its labels; none where there are no labels."""
    names = dict(enumerate(labels))
    return {"id2label": names, "label2id": {label: i for i, label in names.items()}} if names else {}
