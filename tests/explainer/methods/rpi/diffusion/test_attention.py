"""Samples are attention whatever the network predicts: rows, causality, padding, any size, any batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from explainer.methods.rpi.diffusion import AttentionDiffusion, Condition, denoiser
from explainer.methods.rpi.diffusion.attention import centred, logarithms

LAYERS, HEADS, HIDDEN = 2, 3, 8


def diffusion(**settings: object) -> AttentionDiffusion:
    """With random output weights: those of an untrained network are 0."""
    torch.manual_seed(1)
    model = AttentionDiffusion(list(range(LAYERS)), HEADS, HIDDEN, 8, 2, **settings)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.denoiser.out.weight)
    torch.nn.init.uniform_(model.scale, 0.5, 3.0)
    return model.requires_grad_(False)


def valid_of(lengths: list[int], causal: bool, seq: int) -> Tensor:
    """Where attention may be; the second layer has a window of two."""
    at = torch.arange(seq)
    real = at < torch.tensor(lengths)[:, None]
    first = (at[:, None] >= at) if causal else torch.ones(seq, seq, dtype=torch.bool)
    second = first & ((at[:, None] - at).abs() < 2)
    return torch.stack([first, second]) & real[:, None, :, None] & real[:, None, None, :]


def texts(lengths: list[int], causal: bool, seq: int) -> tuple[Condition, Tensor, Tensor]:
    """Condition, own z and noise; the values at padding must not matter, so they are random too."""
    valid = valid_of(lengths, causal, seq)
    size = (len(lengths), LAYERS, HEADS, seq, seq)
    z, noise = torch.randn(size), torch.randn(size)
    return Condition(valid, torch.rand(len(lengths), seq) < 0.5, torch.randn(len(lengths), seq, HIDDEN)), z, noise


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@given(SIZES, st.booleans(), st.sampled_from(["eps", "v"]), st.integers(1, 6), st.floats(0.05, 1.0), st.integers(0, 3))
def test_samples_are_attention(
    lengths: list[int], causal: bool, prediction: str, n_steps: int, start: float, extra: int
) -> None:
    condition, z, noise = texts(lengths, causal, max(lengths) + extra)
    sample = diffusion(prediction=prediction).sampled(z, noise, condition, n_steps, start)
    valid = condition.valid[:, :, None].expand_as(sample)
    assert sample.isfinite().all()
    assert (sample >= 0).all()
    assert (sample[~valid] == 0).all()
    sums = sample.sum(dim=-1)
    assert torch.allclose(sums, valid.any(dim=-1).float(), atol=1e-5)


@given(SIZES, st.booleans(), st.integers(0, 3))
def test_samples_do_not_depend_on_the_batch_or_on_padding(lengths: list[int], causal: bool, extra: int) -> None:
    model = diffusion().double()
    condition, z, noise = texts(lengths, causal, max(lengths) + extra)
    z, noise, hidden = z.double(), noise.double(), condition.hidden.double()
    condition = Condition(condition.valid, condition.replaced, hidden)
    together = model.sampled(z, noise, condition, 3, 0.8)
    for i, n in enumerate(lengths):
        own = Condition(condition.valid[[i], :, :n, :n], condition.replaced[[i], :n], hidden[[i], :n])
        alone = model.sampled(z[[i], ..., :n, :n], noise[[i], ..., :n, :n], own, 3, 0.8)
        assert torch.allclose(alone[0], together[i, ..., :n, :n], atol=1e-8)


def test_rows_widened_a_few_at_a_time_are_rows_widened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = diffusion()
    condition, z, noise = texts([9, 7], True, 9)
    once = model.sampled(z, noise, condition, 2, 1.0)
    monkeypatch.setattr(denoiser, "_ENTRIES", 2 * 9 * 4)
    split = model.sampled(z, noise, condition, 2, 1.0)
    assert torch.allclose(split, once, atol=1e-6)


@given(SIZES, st.booleans())
def test_decoding_inverts_encoding(lengths: list[int], causal: bool) -> None:
    model = diffusion()
    condition, z, _ = texts(lengths, causal, max(lengths))
    attention = model.decoded(z, condition.valid)
    encoded = model.encoded(logarithms(attention), condition.valid)
    assert torch.allclose(model.decoded(encoded, condition.valid), attention, atol=1e-4)


def test_centred_rows_sum_to_zero_over_what_is_valid() -> None:
    condition, z, _ = texts([5, 2], True, 6)
    rows = centred(z, condition.valid)
    assert torch.allclose(rows.sum(dim=-1), torch.zeros(()), atol=1e-5)
    assert (rows[~condition.valid[:, :, None].expand_as(rows)] == 0).all()
    assert torch.equal(diffusion().encoded(z - torch.inf, condition.valid & False), torch.zeros_like(z))


def test_the_prediction_depends_on_everything_in_the_condition() -> None:
    model = diffusion()
    condition, z, _ = texts([6, 4], False, 6)
    before = model.predicted(z, torch.full((2,), 100), condition)
    changes = {
        "replaced": Condition(condition.valid, ~condition.replaced, condition.hidden),
        "hidden": Condition(condition.valid, condition.replaced, condition.hidden.flip(0)),
        "length": Condition(valid_of([5, 4], False, 6), condition.replaced, condition.hidden),
    }
    for changed in changes.values():
        assert not torch.allclose(model.predicted(z, torch.full((2,), 100), changed)[0], before[0], atol=1e-3)
    assert not torch.allclose(model.predicted(z, torch.full((2,), 400), condition), before, atol=1e-3)
    without = diffusion(use_hidden=False)
    assert torch.equal(*(without.predicted(z, torch.full((2,), 100), c) for c in (condition, changes["hidden"])))


def test_the_diffusion_learns_the_attention_of_two_texts_by_their_lengths() -> None:
    """One sample per length: after a short training, samples from pure noise are close to it."""
    torch.manual_seed(0)
    model = AttentionDiffusion([0], 2, HIDDEN, 16, 2, use_hidden=False)
    lengths = [4, 7]
    valid = valid_of(lengths, False, 7)[:, :1]
    goal = model.decoded(2 * torch.randn(2, 1, 2, 7, 7), valid)
    condition = Condition(valid, torch.zeros(2, 7, dtype=torch.bool), torch.zeros(2, 7, HIDDEN))
    clean = model.encoded(logarithms(goal), valid)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def distance() -> float:
        with torch.no_grad():
            sample = model.sampled(torch.zeros_like(clean), torch.randn(clean.shape), condition, 4, 1.0)
        return float((sample - goal).abs().sum(dim=-1).mean())

    before = distance()
    for _ in range(250):
        t: Tensor = torch.randint(1, 501, (2,))
        noise = centred(torch.randn(clean.shape), valid)
        predicted = model.predicted(model.schedule.noised(clean, t, noise), t, condition)
        loss = (predicted - model.schedule.aim(clean, t, noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert distance() < 0.3 * before
