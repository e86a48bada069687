"""Means over texts of functions of one text each, which add up over batches and processes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanOverTexts(Metric):
    """Mean of a per-text function; `update` takes that function's arguments."""

    full_state_update = False
    is_differentiable = False
    function: Any = None
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, *arguments: Any) -> None:
        values = type(self).function(*arguments)
        self.total += values.double().sum().to(self.total.device)
        self.count += len(values)

    def compute(self) -> Tensor:
        return (self.total / self.count).float()


class MeanOverDefined(MeanOverTexts):
    """Mean over the texts on which the function is defined; NaN is left out and not counted."""

    def update(self, *arguments: Any) -> None:
        values = type(self).function(*arguments)
        self.total += values.double().nansum().to(self.total.device)
        self.count += (~values.isnan()).sum().to(self.count.device)
