"""Schedules against closed forms, the moments of the forward process, and DDIM with a perfect denoiser."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explainer.methods.rpi.diffusion import Schedule

EVERY = [(kind, prediction) for kind in ("linear", "cosine") for prediction in ("eps", "v")]


def test_the_linear_schedule_is_the_product_written_out() -> None:
    kept = Schedule("linear").kept
    for t in (0, 1, 17, 500):
        expected = math.prod(1 - (1e-4 + (0.02 - 1e-4) * s / 499) for s in range(t))
        assert kept[t].item() == pytest.approx(expected, rel=1e-5)
    assert kept[500].item() == pytest.approx(0.0063, abs=1e-4)


def test_the_cosine_schedule_is_its_closed_form_but_for_the_bounded_end() -> None:
    kept = Schedule("cosine", n_timesteps=100).kept
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    for t in (0, 1, 40, 99):
        expected = math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 / start
        assert kept[t].item() == pytest.approx(expected, rel=1e-4)
    assert kept[100].item() == pytest.approx(0.001 * kept[99].item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_the_schedule_falls_and_is_saved_with_the_module(kind: str) -> None:
    schedule = Schedule(kind)
    assert (schedule.kept.diff() < 0).all()
    assert "kept" in schedule.state_dict()


@pytest.mark.parametrize("t", [1, 100, 300])
def test_noised_data_have_the_moments_of_the_forward_process(t: int) -> None:
    schedule = Schedule("linear")
    clean = torch.tensor([3.0, -1.0]).expand(50_000, 2)
    noised = schedule.noised(clean, torch.full((50_000,), t), torch.randn(50_000, 2))
    kept = schedule.kept[t].item()
    assert torch.allclose(noised.mean(dim=0), math.sqrt(kept) * clean[0], atol=0.02)
    assert torch.allclose(noised.var(dim=0), torch.tensor(1 - kept), rtol=0.03)


@pytest.mark.parametrize(("kind", "prediction"), EVERY)
@pytest.mark.parametrize(("t", "after"), [(1, 0), (250, 0), (250, 100), (499, 1), (500, 499)])
def test_a_step_with_the_true_prediction_stays_on_the_line_from_data_to_noise(
    kind: str, prediction: str, t: int, after: int
) -> None:
    schedule = Schedule(kind, prediction).double()
    clean, noise = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    now, later = (torch.full((5,), at) for at in (t, after))
    z, true = schedule.noised(clean, now, noise), schedule.aim(clean, now, noise)
    stepped = schedule.step(z, true, schedule.kept[t].item(), schedule.kept[after].item())
    assert torch.allclose(stepped, schedule.noised(clean, later, noise), atol=1e-6)


@pytest.mark.parametrize(("kind", "prediction"), EVERY)
@pytest.mark.parametrize(("n_steps", "start"), [(1, 1.0), (4, 0.3), (50, 1.0)])
def test_a_perfect_denoiser_recovers_the_data(kind: str, prediction: str, n_steps: int, start: float) -> None:
    schedule = Schedule(kind, prediction).double()
    clean = torch.randn(3, 4, dtype=torch.float64)

    def perfect(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal, sigma = schedule.kept[t][:, None].sqrt(), (1 - schedule.kept[t][:, None]).sqrt()
        noise = (z - signal * clean) / sigma
        return noise if prediction == "eps" else signal * noise - sigma * clean

    highest: torch.Tensor = torch.full((3,), schedule.times(n_steps, start)[0])
    z = schedule.noised(clean, highest, torch.randn(3, 4, dtype=torch.float64))
    assert not torch.allclose(z, clean, atol=0.1)
    assert torch.allclose(schedule.ddim(perfect, z, n_steps, start), clean, atol=1e-4)


def test_ddim_of_gaussian_data_keeps_the_marginal_s_scale() -> None:
    """The optimal denoiser of N(0, 4) data turns N(0, 1) noise into N(0, 4): what one step cannot do, many can."""
    schedule = Schedule("cosine", "eps").double()

    def optimal(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        kept = schedule.kept[t][:, None]
        return (1 - kept).sqrt() * z / (4 * kept + 1 - kept)

    noise = torch.randn(20_000, 1, dtype=torch.float64)
    spread = [schedule.ddim(optimal, noise, steps).std().item() for steps in (1, 5, 50)]
    assert abs(spread[2] - 2) < 0.1
    assert abs(spread[2] - 2) < abs(spread[1] - 2) < abs(spread[0] - 2)


@given(st.integers(1, 50), st.floats(0.01, 1.0), st.integers(1, 600))
def test_times_fall_from_the_start_to_zero(n_steps: int, start: float, n_timesteps: int) -> None:
    times = Schedule(n_timesteps=n_timesteps).times(n_steps, start)
    assert times[0] == max(round(start * n_timesteps), 1)
    assert times[-1] == 0
    assert all(a > b for a, b in itertools.pairwise(times))
    assert len(times) <= n_steps + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kind": "square"}, "`kind`"), ({"prediction": "x"}, "`prediction`"), ({"n_timesteps": 0}, "`n_timesteps`")],
    ids=["kind", "prediction", "n_timesteps"],
)
def test_wrong_settings_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)  # type: ignore[arg-type]
    for n_steps, start in ((0, 1.0), (2, 0.0), (2, 1.1)):
        with pytest.raises(ValueError, match=r"`n_steps` .* and `start`"):
            Schedule().times(n_steps, start)
