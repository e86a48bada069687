"""Vision transformers: patches in the place of tokens, relevance by the same rules."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from explainer.explained import ExplainedImageModel, Target
from explainer.methods import CPLRP, AttnLRP
from explainer.methods.lrp import AbstractLRP
from tests.explainer.tools import relative_error

both = pytest.mark.parametrize("kind", [AttnLRP, CPLRP])


@cache
def vit(bias: bool = True) -> ExplainedImageModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    model = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=3))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3) if bias or "bias" not in name else parameter.zero_()
    return ExplainedImageModel(model.double(), ViTImageProcessor(size={"height": 16, "width": 16}))


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@both
@pytest.mark.parametrize("gamma", [None, 0.05])
def test_patch_scores_do_not_depend_on_company_and_leave_the_model_alone(
    kind: type[AbstractLRP], gamma: float | None
) -> None:
    model = vit()
    batch = model.collate(images())
    before = model(batch)
    target = before.predicted()
    scores = kind(gamma=gamma).scores(model, batch, target)
    assert scores.shape == (3, 16)
    assert scores.dtype == torch.float32
    for i in range(3):
        alone = kind(gamma=gamma).scores(model, model.collate(images()[i : i + 1]), target[i : i + 1])
        assert relative_error(scores[i : i + 1], alone) < 1e-5
    assert torch.equal(model(batch).logits, before.logits)


@both
def test_the_gamma_rule_changes_the_scores_and_none_is_gamma_0(kind: type[AbstractLRP]) -> None:
    model = vit()
    batch = model.collate(images())
    target = model(batch).predicted()
    plain = kind().scores(model, batch, target)
    assert relative_error(kind(gamma=0.0).scores(model, batch, target), plain) < 1e-5
    assert relative_error(kind(gamma=0.25).scores(model, batch, target), plain) > 0.01


@pytest.mark.parametrize("gamma", [None, 0.25])
def test_pixels_of_a_patch_sum_to_its_score_where_there_is_no_bias(gamma: float | None) -> None:
    """The patch embedding is a convolution with the kernel its stride: it conserves relevance patch by patch."""
    model = vit(bias=False)
    batch = model.collate(images())
    target = model(batch).predicted()
    pixels = AttnLRP(gamma=gamma).pixel_relevance(model, batch, target)
    assert pixels.shape == (3, 3, 16, 16)
    by_patch = pixels.sum(dim=1).unfold(1, 4, 4).unfold(2, 4, 4).sum(dim=(-1, -2)).flatten(1)
    assert relative_error(by_patch, AttnLRP(gamma=gamma).scores(model, batch, target)) < 1e-5


def test_latent_relevance_of_every_layer() -> None:
    model = vit()
    batch = model.collate(images())
    names = [f"vit.layers.{i}" for i in range(2)]
    names = names if dict(model.model.named_modules()).get(names[0]) else [f"vit.encoder.layer.{i}" for i in range(2)]
    relevance = CPLRP().relevance(model, batch, Target.of([0, 1, 2]), names)
    assert {tuple(values.shape) for values in relevance.values()} == {(3, 17, 16)}


def test_images_are_processed_and_a_model_without_a_processor_says_so(tmp_path: Path) -> None:
    model = vit()
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    batch = model.encode([picture, picture])
    logits = model(batch).logits[:, 0]
    assert torch.allclose(logits[0], logits[1])
    with pytest.raises(ValueError, match="`processor` is needed"):
        ExplainedImageModel(model.model).encode([picture])
    model.model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    loaded = ExplainedImageModel.from_pretrained(tmp_path, dtype=torch.float64)
    readout = loaded(batch)
    assert torch.allclose(readout.logits[:, 0], logits, atol=1e-6)
    assert loaded.labels == model.labels
    assert torch.equal(readout.value(readout.predicted()), readout.logits[:, 0].amax(dim=1))


def test_what_needs_tokens_is_refused_with_the_methods_that_do_not() -> None:
    model = vit()
    for thing, name in ((model.collate(images()), "input_ids"), (model, "predict")):
        with pytest.raises(AttributeError, match=f"`{name}`: images have no tokens.*`attn_lrp` and `cp_lrp`"):
            getattr(thing, name)
