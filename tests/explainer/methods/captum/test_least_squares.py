"""The weighted fit against scipy-free algebra: exact on linear data, least norm when underdetermined."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from explainer.methods.captum.least_squares import LeastSquares
from tests.explainer.tools import relative_error


def fit(ridge: float, z: torch.Tensor, v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    model = LeastSquares(ridge)
    model.fit(DataLoader(TensorDataset(z, v, weight), batch_size=len(z)))
    return model.representation()


def test_linear_data_give_their_coefficients_whatever_the_weights() -> None:
    z = torch.bernoulli(torch.full((30, 4), 0.5))
    coefficients = torch.tensor([1.0, -2.0, 0.5, 3.0])
    fitted = fit(0.0, z, z @ coefficients + 7, torch.rand(30) + 0.1)
    assert relative_error(fitted, coefficients) < 1e-6


def test_fewer_samples_than_features_give_the_solution_of_least_norm() -> None:
    z = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert relative_error(fit(0.0, z, torch.tensor([2.0, 0.0]), torch.ones(2)), torch.tensor([1.0, 1.0, 0.0])) < 1e-6


def test_the_ridge_is_in_units_of_the_samples() -> None:
    """One feature: phi = cov / (var + ridge / samples), the intercept unpenalised."""
    z, v = torch.tensor([[0.0], [1.0], [1.0], [0.0]]), torch.tensor([5.0, 9.0, 9.0, 5.0])
    assert relative_error(fit(2.0, z, v, torch.ones(4)), torch.tensor([1.0 / (0.25 + 2.0 / 4)])) < 1e-6
