"""Vision transformers: patches in the place of tokens, for methods, operators and metrics alike."""

from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from explainer.explained import Attributions, ExplainedImageModel, ExplainedModel, Target, load_explained
from explainer.faithfulness import faithfulness
from explainer.faithfulness.perturbation import Operator, mask_of, perturb
from explainer.faithfulness.set_values import drawn_set_values, top_set_values
from explainer.methods import CPLRP, METHODS, SIG, AttnLRP, KernelShap, LeaveOneOut
from explainer.methods.lrp import AbstractLRP
from tests.explainer.tools import relative_error

both = pytest.mark.parametrize("kind", [AttnLRP, CPLRP])
SIZES: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
SIZES |= {"image_size": 12, "patch_size": 4, "num_labels": 3}
FAMILIES: dict[str, Any] = {
    "vit": lambda: ViTForImageClassification(ViTConfig(**SIZES, intermediate_size=32)),
    "deit": lambda: DeiTForImageClassification(DeiTConfig(**SIZES, intermediate_size=32)),
    "dinov2": lambda: Dinov2ForImageClassification(Dinov2Config(**SIZES, mlp_ratio=2)),
}
families = pytest.mark.parametrize("family", FAMILIES)
COUNTED = ("leave_one_out", "context_cite", "subset_regression", "greedy_deletion", "greedy_keeping")
"""The methods that delete patches."""
READ = ("attention_rollout", "mean_attention", "gae", "mask_lrp")
"""The methods that read attention at the class token."""


@cache
def explained(family: str = "vit", bias: bool = True) -> ExplainedImageModel:
    torch.manual_seed(0)
    model = FAMILIES[family]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3) if bias or "bias" not in name else parameter.zero_()
    return ExplainedImageModel(model.double(), ViTImageProcessor(size={"height": 12, "width": 12}))


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@families
def test_patches_are_tokens_and_the_model_answers_as_by_itself(family: str) -> None:
    model = explained(family)
    grid = model.grid
    assert (grid.rows, grid.columns, grid.n_special) == (3, 3, 2 if family == "deit" else 1)
    texts = model.encode_pixels(images())
    batch = model.collate(texts)
    assert batch.patches is not None
    assert torch.equal(grid.pixels(batch.patches), images())
    assert texts[0].n_scorable == 9
    own = model.model(pixel_values=images()).logits
    assert relative_error(model(batch).logits[:, 0], own) < 1e-6
    assert relative_error(model.predict([text.tokens for text in texts]).logits[:, 0], own) < 1e-6


@pytest.mark.parametrize("family", ["vit", "dinov2"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_patches_or_says_why_not(family: str, name: str) -> None:
    model, method = explained(family), METHODS[name]()
    texts = model.encode_pixels(images())
    target = model.predicted(texts)
    if family == "dinov2" and name in COUNTED + READ:
        reason = "none can be deleted" if name in COUNTED else "no single place|no rule"
        with pytest.raises(ValueError, match=reason):
            method.attribute(model, texts, target)
        return
    before = model.predict([text.tokens for text in texts]).logits
    scores = method.attribute(model, texts, target).scores
    assert all(len(row) == len(model.grid) and not row[: model.grid.n_special].any() for row in scores)
    assert all(row.isfinite().all() and row.unique().numel() > 1 for row in scores)
    alone = method.attribute(model, texts[1:2], target[1:2]).scores[0]
    assert relative_error(alone, scores[1]) < 1e-4
    assert torch.equal(model.predict([text.tokens for text in texts]).logits, before)


def test_the_operators_against_pixels_and_a_shorter_sequence() -> None:
    model = explained()
    (text,) = model.encode_pixels(images(1))
    mask = mask_of([1, 5], 10)  # the patches (0, 0) and (1, 1)
    grey = images(1)
    grey[:, :, :4, :4] = grey[:, :, 4:8, 4:8] = 0
    of = {name: model.predict([perturb(text, mask, name, -1)]).logits[0] for name in ("replace", "delete", "hide")}
    assert relative_error(of["replace"], model.model(pixel_values=grey).logits) < 1e-6
    # The class token's answer when the encoder reads the embeddings of the other patches alone.
    vit = model.model.vit
    states = vit.embeddings(images(1))[:, ~mask]
    for layer in model.layers:
        states = layer(states)
    shorter = model.model.classifier(vit.layernorm(states)[:, 0])
    assert relative_error(of["delete"], shorter) < 1e-6
    assert relative_error(of["hide"], shorter) < 1e-6
    assert relative_error(of["replace"], shorter) > 1e-3


def test_completeness_and_leave_one_out_by_hand() -> None:
    model = explained()
    texts = model.encode_pixels(images(2))
    target = model.predicted(texts)
    grey = model.encode_pixels(torch.zeros(2, 3, 12, 12, dtype=torch.float64))
    change = model.evaluate([text.tokens for text in texts], target).value
    change = change - model.evaluate([text.tokens for text in grey], target).value
    shap = KernelShap().attribute(model, texts, target).scores
    assert torch.stack(shap).sum(dim=1).tolist() == pytest.approx(change.tolist(), rel=1e-3)
    (one,) = texts[:1]
    scores = SIG().attribute(model, [one], target[:1]).scores[0]
    pixels = images(1)
    pixels[:, :, 8:12, :4] = 0
    value = model.evaluate([one.tokens, model.encode_pixels(pixels)[0].tokens], target[[0, 0]]).value
    assert float(scores[1 + 6]) == pytest.approx(float(value[0] - value[1]), rel=1e-4)
    deleted = LeaveOneOut().attribute(model, [one], target[:1]).scores[0]
    assert relative_error(deleted, scores) > 1e-3


@pytest.mark.parametrize("operator", ["replace", "hide", "delete", "blank"])
def test_metrics_of_patches(operator: Any) -> None:
    model = explained()
    texts = model.encode_pixels(images())
    attributions = SIG().attribute(model, texts, model.predicted(texts))
    metrics = ["comprehensiveness", "sufficiency", "aopc_comprehensiveness", "morf_lerf_area"]
    values = faithfulness(model, attributions, metrics, operator=operator)
    taken = [perturb(text, _top(row), operator, -1) for text, row in zip(texts, attributions.scores, strict=True)]
    whole = model.evaluate([text.tokens for text in texts], attributions.target).probability
    after = model.evaluate(taken, attributions.target).probability
    assert whole is not None
    assert after is not None
    assert torch.allclose(values["comprehensiveness"], whole - after)


def _top(scores: Tensor) -> Tensor:
    """A fifth of the 9 patches."""
    return mask_of(scores[1:].argsort(descending=True)[:1] + 1, 10)


@both
def test_the_gamma_rule_changes_the_scores_and_none_is_gamma_0(kind: type[AbstractLRP]) -> None:
    model = explained()
    batch = model.collate(model.encode_pixels(images()))
    target = model(batch).predicted()
    plain = kind().scores(model, batch, target)
    assert relative_error(kind(gamma=0.0).scores(model, batch, target), plain) < 1e-5
    assert relative_error(kind(gamma=0.25).scores(model, batch, target), plain) > 0.01


@pytest.mark.parametrize("gamma", [None, 0.25])
def test_pixels_of_a_patch_sum_to_its_score_where_there_is_no_bias(gamma: float | None) -> None:
    """The patch embedding is a convolution with the kernel its stride: it conserves relevance patch by patch."""
    model = explained(bias=False)
    batch = model.collate(model.encode_pixels(images()))
    target = model(batch).predicted()
    pixels = AttnLRP(gamma=gamma).pixel_relevance(model, batch, target)
    assert pixels.shape == (3, 3, 12, 12)
    by_patch = pixels.sum(dim=1).unfold(1, 4, 4).unfold(2, 4, 4).sum(dim=(-1, -2)).flatten(1)
    assert relative_error(by_patch, AttnLRP(gamma=gamma).scores(model, batch, target)[:, 1:]) < 1e-5


def test_latent_relevance_of_every_layer() -> None:
    model = explained()
    batch = model.collate(model.encode_pixels(images()))
    names = [f"vit.layers.{i}" for i in range(2)]
    relevance = CPLRP().relevance(model, batch, Target.of([0, 1, 2]), names)
    assert {tuple(values.shape) for values in relevance.values()} == {(3, 10, 16)}


def test_images_are_read_from_files_and_arrays_and_loaded_by_architecture(tmp_path: Path) -> None:
    model = explained()
    picture = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    texts = model.encode([picture, tmp_path / "a.png"])
    assert [text.text for text in texts] == ["image 0", str(tmp_path / "a.png")]
    logits = model.predict([text.tokens for text in texts]).logits
    assert torch.equal(logits[0], logits[1])
    folder = tmp_path / "model"
    model.model.save_pretrained(folder)
    model.processor.save_pretrained(folder)
    loaded = load_explained(folder, dtype=torch.float64)
    assert isinstance(loaded, ExplainedImageModel)
    assert torch.allclose(loaded.predict([text.tokens for text in texts]).logits, logits, atol=1e-6)
    assert (loaded.labels, loaded.text.fingerprint) == (model.labels, model.text.fingerprint)


@pytest.mark.parametrize("operator", get_args(Operator))
@pytest.mark.parametrize("family", ["vit", "deit"])
def test_sets_of_drawn_patches_have_the_values_of_the_curves(family: str, operator: Operator) -> None:
    model = explained(family)
    texts, target = model.encode_pixels(images()), Target.of([0] * 3)
    batch, percents = model.collate(texts), (100 / 9, 400 / 9)
    drawn = torch.rand(3, 1, batch.input_ids.shape[1], generator=torch.Generator().manual_seed(0))
    values, sets = drawn_set_values(model, texts, batch, target, drawn, percents, operator)
    found = values[:, 0]
    assert sets.sum(dim=3)[:, 0].tolist() == [[1, 4]] * 3
    expected = top_set_values(model, Attributions(texts, target, [*drawn[:, 0]]), percents, operator)
    assert relative_error(found, expected) < 1e-5


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    model = explained()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    for name, reason in (("none.png", "there is no such file"), ("broken.png", "is no image that can be read")):
        with pytest.raises(ValueError, match=rf"`images\[0\]` '.*{name}'.*{reason}"):
            model.encode([str(tmp_path / name)])
    with pytest.raises(ValueError, match=r"`pixel_values` must be \(images, 3, 12, 12\), got \(3, 8, 8\)"):
        model.encode_pixels(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="`processor` is needed to read images"):
        ExplainedImageModel(model.model).encode([np.zeros((12, 12, 3), dtype=np.uint8)])


def test_models_that_merge_patches_are_refused() -> None:
    sizes: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
    model = SwinForImageClassification(SwinConfig(**sizes, image_size=16, patch_size=2, num_labels=3))
    with pytest.raises(ValueError, match="does not keep one token per patch"):
        ExplainedImageModel(model)


def test_an_image_model_is_a_model_of_texts_to_methods() -> None:
    assert isinstance(explained(), ExplainedModel)
