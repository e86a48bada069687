"""What the tasks with a closed list of labels share."""

from typing import Any


def label_names(config: Any) -> tuple[str, ...]:
    """The names of the labels in the order of their indices; names that are no strings are written as such."""
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))
