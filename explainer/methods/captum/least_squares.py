"""The weighted least squares that captum's LIME and KernelSHAP fit: exact, in float64, without scikit-learn."""

from typing import Any

import torch
from torch import Tensor


class LeastSquares:
    """argmin_{phi, b} sum_m w_m (v_m - z_m . phi - b)^2 + ridge |phi|^2, as captum's interpretable models are called.

    With `ridge` 0 and fewer samples than features it is the solution of least norm.
    """

    def __init__(self, ridge: float) -> None:
        self.ridge = ridge
        self.coefficients = torch.empty(0)

    def fit(self, train_data: Any) -> None:
        """`train_data` gives one batch (presence (m, n), values (m,), weights (m,))."""
        z, v, weight = (part.double() for part in next(iter(train_data)))
        weight = weight[:, None] / weight.sum()
        root = weight.sqrt() * len(z) ** 0.5
        # The intercept is not penalised: it is what centring by the weighted means leaves.
        z, v = root * (z - (weight * z).sum(dim=0)), root[:, 0] * (v - weight[:, 0] @ v)
        pull = self.ridge**0.5 * torch.eye(z.shape[1], dtype=z.dtype)
        v = torch.cat([v, torch.zeros_like(pull[0])])
        self.coefficients = torch.linalg.lstsq(torch.cat([z, pull]), v[:, None], driver="gelsd").solution[:, 0]

    def representation(self) -> Tensor:
        return self.coefficients
