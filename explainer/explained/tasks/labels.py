"""What the tasks with a closed list of labels share."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def label_names(config: Any) -> tuple[str, ...]:
    """The names of the labels in the order of their indices; names that are no strings are written as such."""
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))


def precise(logits: Tensor) -> Float[Tensor, "batch labels"]:
    """The logits in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
