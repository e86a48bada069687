"""The learned baseline as a sampler of RPI: its contract on every family, its folder, and refused settings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.explained import ExplainedModel
from explainer.methods import RPI
from explainer.methods.rpi.baselines import Learned, sampler
from explainer.methods.rpi.diffusion import AttentionDiffusion
from explainer.storage.provenance import digest_of
from tests.explainer.tools import batch_of, bit_equal_logits, predicted, relative_error, state_of
from tests.families import FAMILIES, TEXTS, explained


def learned(model: ExplainedModel, layers: tuple[int, ...] = (0, 1), **settings: Any) -> Learned:
    """A diffusion with random weights for the tiny models."""
    torch.manual_seed(2)
    config = model.backbone.config
    diffusion = AttentionDiffusion(list(layers), config.num_attention_heads, config.hidden_size, 8, 2)
    torch.nn.init.normal_(diffusion.denoiser.out.weight)
    torch.nn.init.uniform_(diffusion.scale, 0.5, 3.0)
    diffusion = diffusion.requires_grad_(False).eval()
    return Learned(diffusion, digest_of(diffusion.state_dict())[:16], model.text.fingerprint, **settings)


@pytest.mark.parametrize("start", [0.3, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_samples_keep_the_contract_of_baselines(family: str, start: float) -> None:
    model = explained(family)
    state, baseline = state_of(model, batch_of(model)), learned(model, start=start)
    sample = baseline(state, 0, 0)
    valid = state.valid[:, :, None].expand_as(sample)
    assert torch.equal(sample[~valid], state.attention[~valid])
    assert (sample[valid] >= 0).all()
    assert torch.allclose(sample.sum(dim=-1)[valid.any(dim=-1)], torch.ones(()), atol=1e-5)
    if family in ("gpt2", "llama", "gemma"):
        assert (sample.triu(diagonal=1)[:, :, :, : int(state.batch.attention_mask.sum(dim=1).min())] == 0).all()
    assert torch.equal(sample, baseline(state, 0, 0))
    assert not torch.equal(sample, baseline(state, 1, 0))
    assert not torch.equal(sample, baseline(state, 0, 1))
    for i, text in enumerate(TEXTS):
        alone = baseline(state_of(model, batch_of(model, [text])), 0, 0)
        n = alone.shape[-1]
        assert torch.allclose(alone[:, 0], sample[:, i, :, :n, :n], atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_rpi_with_a_learned_baseline(family: str) -> None:
    model = explained(family)
    with bit_equal_logits(model):
        rpi = RPI(baseline=learned(model, (1,)), n_baselines=2)
        assert rpi.layers == (1,)
        target = predicted(model, batch_of(model))
        right, left = (rpi.scores(model, batch_of(model, side=side), target) for side in ("right", "left"))
    assert right.isfinite().all()
    unpadded = [torch.cat(batch_of(model, side=side).split(s)) for side, s in (("right", right), ("left", left))]
    assert relative_error(unpadded[1], unpadded[0]) < 1e-4


def test_a_start_near_the_data_stays_nearer_to_the_text_s_own_attention() -> None:
    model = explained("bert")
    state = state_of(model, batch_of(model))
    valid = state.valid[:, :, None].expand_as(state.attention)
    near, far = (
        (learned(model, start=start)(state, 0, 0) - state.attention)[valid].abs().mean() for start in (0.01, 1.0)
    )
    assert near < 0.5 * far


def test_a_saved_baseline_loads_equal_to_the_bit_and_by_its_folder(tmp_path: Path) -> None:
    model = explained("bert")
    baseline = learned(model, (1,), n_steps=3, start=0.7, rpi_settings={"formula": "difference", "n_steps": 4})
    baseline.save(tmp_path, model)
    state = state_of(model, batch_of(model), (1,))
    # The key is part of the file format.
    assert json.loads((tmp_path / "config.json").read_text())["reading"] == {"formula": "difference", "n_steps": 4}
    loaded = Learned.load(tmp_path)
    assert loaded == baseline
    assert loaded.key == baseline.key
    assert torch.equal(loaded(state, 0, 0), baseline(state, 0, 0))
    assert sampler(str(tmp_path)) == baseline
    assert Learned.load(tmp_path).diffusion is loaded.diffusion  # read once
    assert Learned.load(tmp_path, n_steps=1).n_steps == 1
    by_name = RPI(baseline=str(tmp_path))
    assert by_name.layers == (1,)
    assert by_name.settings["baseline"] == baseline.key
    assert (by_name.formula, by_name.n_steps) == ("difference", 4)  # what it was trained for
    assert RPI(baseline=str(tmp_path), formula="gradient").formula == "gradient"
    assert baseline.digest in baseline.key
    batch = batch_of(model)
    target = predicted(model, batch)
    expected = RPI(baseline=baseline).scores(model, batch, target)
    assert torch.equal(by_name.scores(model, batch, target), expected)


def test_other_weights_in_the_same_folder_are_read_again(tmp_path: Path) -> None:
    model = explained("bert")
    baseline = learned(model)
    baseline.save(tmp_path, model)
    first = Learned.load(tmp_path)
    with torch.no_grad():
        baseline.diffusion.scale.mul_(2)
    baseline.save(tmp_path, model)
    assert Learned.load(tmp_path).digest != first.digest


CHANGES: dict[str, tuple[str, Any, str]] = {
    "an older version": ("amortex", 1, "is 1, and 2 is read: an older version wrote it"),
    "another formula": ("reading", {"formula": "gradient"}, "`settings_sha256` is of others"),
    "other weights": ("weights_sha256", "0" * 64, "`settings_sha256` is of others"),
    "a huge width": ("width", 20_000, "`width` is 20000, and the saved weights have"),
    "a huge depth": ("depth", 20_000, "`depth` is 20000, and the saved weights have"),
    "many steps": ("n_timesteps", 10**9, "`n_timesteps` is 1000000000, and the saved weights have"),
    "a wide model": ("hidden_size", 10**6, "`hidden_size` is 1000000, and the saved weights have 16"),
    "no hidden states": ("use_hidden", False, "`use_hidden` is False, and the saved weights have True"),
    "a layer more": ("layers", [0, 1, 2], "`layers` is 3, and the saved weights have 2"),
    "a layer that is none": ("layers", "01", "`layers` is '01'"),
    "a start that is none": ("sampling", {"n_steps": 1, "start": {}}, "`start` is {}"),
    "another sampling": ("sampling", {"n_steps": 1, "start": 1, "---": 0}, "`sampling` is {"),
    "no reading": ("reading", None, "`reading` is None"),
    "another schedule": ("schedule", "linear", "`settings_sha256` is of others"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_folder_is_refused(case: str, tmp_path: Path) -> None:
    learned(explained("bert")).save(tmp_path, explained("bert"))
    name, value, told = CHANGES[case]
    config = json.loads((tmp_path / "config.json").read_text())
    (config["diffusion"] if name in config["diffusion"] else config)[name] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=re.escape(told)):
        Learned.load(tmp_path)


def test_one_bit_of_the_weights_is_noticed(tmp_path: Path) -> None:
    learned(explained("bert")).save(tmp_path, explained("bert"))
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-40] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="the bytes of its weights are not those that were exported"):
        Learned.load(tmp_path)


def test_other_layers_and_other_models_are_refused() -> None:
    model = explained("bert")
    batch = batch_of(model)
    target = predicted(model, batch)
    with pytest.raises(ValueError, match=r"`layers` must be \(1,\).* got \(0, 1\)"):
        RPI(baseline=learned(model, (1,)), layers="all").scores(model, batch, target)
    other = explained("llama")
    with pytest.raises(ValueError, match="`baseline` was trained for another model than 'tiny-llama'"):
        RPI(baseline=learned(model, (1,))).scores(other, batch_of(other), predicted(other, batch_of(other)))


@pytest.mark.parametrize("settings", [{"n_steps": 0}, {"n_steps": 51}, {"start": 0.0}, {"start": 1.5}])
def test_wrong_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`n_steps` must lie between 1 and 50 and `start` in \(0, 1\]"):
        learned(explained("bert"), **settings)


def test_folders_that_hold_no_baseline_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`baseline` 'no/such' is no exported baseline"):
        RPI(baseline="no/such")
    (tmp_path / "config.json").write_text(json.dumps({"explainer": {"kind": "lora"}}))
    with pytest.raises(ValueError, match="is no exported baseline"):
        RPI(baseline=str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_can_be_stored_in_half_and_are_loaded_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = explained("bert")
    baseline = learned(model)
    baseline.save(tmp_path / "whole", model)
    baseline.save(tmp_path / "half", model, dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.75 * sizes[0]
    loaded, state = Learned.load(tmp_path / "half"), state_of(model, batch_of(model))
    assert {parameter.dtype for parameter in loaded.diffusion.parameters()} == {torch.float32}
    for (name, buffer), stored in zip(baseline.diffusion.named_buffers(), loaded.diffusion.buffers(), strict=True):
        assert torch.equal(buffer, stored), name
    sample, exact = loaded(state, 0, 0), baseline(state, 0, 0)
    assert torch.allclose(sample, exact, atol=0.05)
    assert not torch.equal(sample, exact)
