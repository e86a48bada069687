"""Noise schedules, the forward process, and DDIM, for tensors of any shape.

Forward (Ho et al., DDPM, NeurIPS 2020): z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps, abar_t = prod_s<=t (1 - beta_s).
Linear betas are theirs; the cosine abar is Nichol & Dhariwal's (ICML 2021, equation 17, beta at most 0.999).
v = sqrt(abar_t) eps - sqrt(1 - abar_t) z_0 (Salimans & Ho, ICLR 2022). DDIM (Song et al., ICLR 2021, equation 12,
sigma = 0) goes from t to s < t by z_s = sqrt(abar_s) z_0_hat + sqrt(1 - abar_s) eps_hat.
"""

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

SCHEDULES = ("linear", "cosine")
PREDICTIONS = ("eps", "v")

State = Float[Tensor, "batch *rest"]
Times = Int64[Tensor, " batch"]


class Schedule(nn.Module):
    """abar at t = 0 (data without noise) ... T, and the forward and reverse steps that follow from it.

    Args:
        kind: `linear` (beta from `first` to `last`) or `cosine`.
        prediction: what the network predicts: the noise (`eps`), or `v`.
        n_timesteps: T.

    Raises:
        ValueError: on an unknown kind or prediction, or no step.
    """

    kept: Tensor
    """abar_t, the share of the variance that is data: a buffer under this name in saved weights."""

    def __init__(
        self,
        kind: str = "cosine",
        prediction: str = "v",
        n_timesteps: int = 500,
        first: float = 1e-4,
        last: float = 0.02,
    ) -> None:
        super().__init__()
        for name, value, choices in (("kind", kind, SCHEDULES), ("prediction", prediction, PREDICTIONS)):
            if value not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}.")
        if not 1 <= n_timesteps <= 100_000:
            raise ValueError(f"`n_timesteps` must lie between 1 and 100,000, got {n_timesteps}.")
        self.prediction, self.n_timesteps = prediction, n_timesteps
        steps = torch.arange(n_timesteps + 1, dtype=torch.float64) / n_timesteps
        if kind == "linear":
            betas = torch.linspace(first, last, n_timesteps, dtype=torch.float64)
        else:
            squared = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
            betas = (1 - squared[1:] / squared[:-1]).clamp(max=0.999)
        self.register_buffer("kept", torch.cat([torch.ones(1), (1 - betas).cumprod(dim=0).float()]))

    def noised(self, clean: State, t: Times, noise: State) -> State:
        """A sample of q(z_t | z_0), with one t per row."""
        signal, sigma = self._scales(t, clean)
        return torch.addcmul(signal * clean, sigma, noise)

    def aim(self, clean: State, t: Times, noise: State) -> State:
        """The quantity that the network learns to predict at z_t: the noise, or v."""
        signal, sigma = self._scales(t, clean)
        return noise if self.prediction == "eps" else signal * noise - sigma * clean

    def times(self, n_steps: int, start: float = 1.0) -> list[int]:
        """The t that DDIM visits, from start * T down to 0, each once.

        Raises:
            ValueError: when there is no step, or `start` is not in (0, 1].
        """
        if n_steps < 1 or not 0 < start <= 1:
            raise ValueError(f"`n_steps` must be at least 1 and `start` in (0, 1], got {n_steps} and {start}.")
        highest = max(round(start * self.n_timesteps), 1)
        times = torch.linspace(highest, 0, n_steps + 1).round().long().tolist()
        return sorted(set(times), reverse=True)

    def ddim(self, predict: Callable[[State, Times], State], z: State, n_steps: int, start: float = 1.0) -> State:
        """z_0 from z at t = start * T, in `n_steps` steps at most; `predict(z, t)` is the network."""
        times = self.times(n_steps, start)
        for (t, now), (_, after) in itertools.pairwise(zip(times, self.kept[times].tolist(), strict=True)):
            z = self.step(z, predict(z, torch.full((len(z),), t, device=z.device)), now, after)
        return z

    def step(self, z: State, predicted: State, now: float, after: float) -> State:
        """One step of DDIM, from z_t to z_s.

        DDIM's z_s is linear in z_0_hat and eps_hat, which are linear in z and the network's output. So the step needs
        two factors only: one of z, one of the output.

        Args:
            predicted: the network's output at z.
            now: abar_t.
            after: abar_s.
        """
        signal, sigma = math.sqrt(now), math.sqrt(1 - now)
        signal_after, sigma_after = math.sqrt(after), math.sqrt(1 - after)
        if self.prediction == "eps":  # z_0_hat = (z - sigma eps) / signal
            of_z, of_predicted = signal_after / signal, sigma_after - signal_after * sigma / signal
        else:  # z_0_hat = signal z - sigma v, eps_hat = sigma z + signal v
            of_z = signal_after * signal + sigma_after * sigma
            of_predicted = sigma_after * signal - signal_after * sigma
        return (z * of_z).add_(predicted, alpha=of_predicted)

    def _scales(self, t: Times, like: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of the data and of the noise in z_t, one per row."""
        kept = self.kept[t].view(-1, *[1] * (like.ndim - 1)).to(like)
        return kept.sqrt(), (1 - kept).sqrt()
