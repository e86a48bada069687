"""The training of response explainers: what is learned, what is kept, and which settings are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.attributor import ResponseAttributor
from explainer.explained import responses_target
from explainer.explainers import AttentionExplainer
from lightning_modules.cli import main
from lightning_modules.commands.export import load_training
from lightning_modules.response import ResponseTraining
from tests.lightning_modules.conftest import write
from tests.lightning_modules.data.test_responses import additive, asked

SETTINGS: dict[str, dict[str, Any]] = {"attention": {}, "response": {"width": 8, "depth": 1, "rank": 2, "heads": 2}}


def arguments(language_model: str, explainer: str = "attention", **options: Any) -> dict[str, Any]:
    small = {"explained": language_model, "dtype": "float32", "new_tokens": 3, "sources": "word", "n_masks": 4}
    return {**small, "explainer": explainer, "explainer_settings": SETTINGS[explainer], **options}


@pytest.fixture
def training(configuration: dict[str, Any], language_model: str) -> dict[str, Any]:
    """A training of two epochs."""
    configuration["model"] = {
        "class_path": "lightning_modules.response.ResponseTraining",
        "init_args": arguments(language_model, learning_rate=0.02),
    }
    configuration["data"]["limit"] = {"train": 8, "validation": 4}
    return configuration


@pytest.mark.parametrize("explainer", SETTINGS)
def test_the_explainer_is_trained_and_nothing_else(
    explainer: str, training: dict[str, Any], language_model: str, tmp_path: Path
) -> None:
    training["model"]["init_args"] |= {"explainer": explainer, "explainer_settings": SETTINGS[explainer]}
    main(["fit", "--config", write(training, tmp_path / "config.yaml")])
    module, stored = load_training(tmp_path / "run" / "checkpoints" / "best.ckpt")
    untrained = ResponseTraining(**training["model"]["init_args"])
    assert isinstance(module, ResponseTraining)
    assert set(stored["state_dict"]) == {f"explainer.{name}" for name, _ in module.explainer.named_parameters()}
    assert not torch.equal(module.explainer.weight, untrained.explainer.weight)
    for own, before in zip(module.explained.model.parameters(), untrained.explained.model.parameters(), strict=True):
        assert torch.equal(own, before)
    longest = module.explainer.longest_text
    assert longest is not None
    assert 0 < longest <= 40
    explanation = module.attributor([{"role": "user", "content": "the film was good"}])
    assert isinstance(module.attributor, ResponseAttributor)
    assert [one.text for one in explanation.sources()] == ["the", "film", "was", "good"]


def test_the_loss_is_0_at_additive_effects_and_2_at_their_opposite(language_model: str) -> None:
    responses, torch_weights = asked(), torch.Generator().manual_seed(0)
    weights = [torch.randn(len(one.sources), generator=torch_weights) for one in responses]
    batch = additive(responses, weights).batch([0, 1])
    scores = torch.zeros(batch.tokens.input_ids.shape)
    for row, one, weight in zip(scores, responses, weights, strict=True):
        for source, value in zip(one.sources, weight, strict=True):
            row[list(source.tokens)] = value / len(source.tokens)
    module = ResponseTraining(**arguments(language_model))
    for factor, expected in ((3.0, 0.0), (-1.0, 2.0)):
        losses = module.losses(factor * scores, batch)
        assert set(losses) == {"one_less", "half", "bernoulli"}
        assert [float(loss) for loss in losses.values()] == pytest.approx([expected] * 3, abs=1e-4)


def test_training_raises_the_agreement_with_ablations(language_model: str) -> None:
    """By gradient steps on one batch whose effects are those that other head weights predict."""
    module = ResponseTraining(**arguments(language_model))
    explained, explainer = module.explained, module.explainer
    assert isinstance(explainer, AttentionExplainer)
    responses = asked()
    tokens, target = explained.collate([one.text for one in responses]), responses_target(responses)
    with torch.no_grad():
        explainer.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        scores = explainer(explained, tokens, target)
        explainer.weight.fill_(-0.25)  # the opposite, nearly
    batch = additive(
        responses,
        [torch.tensor(one.source_scores(row[: len(one.text)])) for one, row in zip(responses, scores, strict=True)],
    ).batch([0, 1])
    optimizer = torch.optim.Adam(module.explainer.parameters(), 0.1)
    losses = []
    for _ in range(30):
        loss = torch.stack(list(module.losses(explainer(explained, tokens, target), batch).values())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 < 1 < losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"explainer": "side"}, r"`explainer` of responses must be one of attention, response, got 'side'"),
        ({"explainer": "sid"}, r"`explainer` of responses must be one of attention, response, got 'sid'"),
        ({"dtype": "float"}, r"`dtype` must be one of float32, .*, got 'float'"),
        ({"warmup": 1.0}, r"`warmup` is a share"),
    ],
    ids=["labels", "unknown", "dtype", "warmup"],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str, language_model: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResponseTraining(**{**arguments(language_model), **options})
