"""captum's view of the model: the objective of every row's own target, and the global generators left alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.methods.captum.forward import CaptumForward, TextForward, seeded
from tests.explainer.tools import batch_of, double, encoded, relative_error
from tests.families import FAMILIES, TEXTS, explained

TARGETS = {
    "plain": Target.of([0, 1, 2, 0]),
    "foil": Target.of([0, 1, 2, 0], [1, 2, 0, 2]),
    "log_prob": Target.of([0, 1, 2, 0], [1, 2, 0, 2], "log_prob"),
}
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
@pytest.mark.parametrize("family", FAMILIES)
def test_captum_s_view_of_a_batch_gives_its_objective(family: str, target: Target) -> None:
    model = double(family)
    batch = batch_of(model, side="left")
    forward = CaptumForward(model)
    objective = forward(forward.embeddings(batch), *forward.arguments(batch, target))
    assert torch.equal(objective, model.objective(batch, target))
    rows = torch.tensor([2, 0])
    some = forward(forward.embeddings(batch)[rows], *forward.arguments(batch[rows], target[rows]))
    assert relative_error(some, objective[rows]) < 1e-6


def test_captum_s_view_keeps_hidden_tokens_hidden() -> None:
    model = double("bert")
    texts = encoded(model)
    batch = model.collate([replace(text, tokens=text.tokens.concealed(text.scorable)) for text in texts])
    forward, target = CaptumForward(model), TARGETS["plain"]
    objective = forward(forward.embeddings(batch), *forward.arguments(batch, target))
    assert torch.equal(objective, model.objective(batch, target))
    assert relative_error(objective, model.objective(model.collate(texts), target)) > 1e-3


@every_target
@pytest.mark.parametrize("family", FAMILIES)
def test_absent_units_are_replaced_by_the_baseline_token(family: str, target: Target) -> None:
    model = double(family)
    text = encoded(model, TEXTS[:1])[0]
    forward = TextForward(model, text, target[:1])
    places = text.scorable.nonzero()[:, 0]
    presence = forward.whole.repeat(2, 1)
    presence[1, 0] = 0
    other = text.tokens.input_ids.clone()
    other[places[0]] = model.baseline_token_id
    expected = [model.objective(one(model, ids), target[:1]) for ids in (text.tokens.input_ids, other)]
    assert relative_error(forward(presence), torch.cat(expected)) < 1e-6
    batch = batch_of(model, TEXTS[:1])
    words = CaptumForward(model).embeddings(batch)
    nothing = model.objective(batch, target[:1], edit=lambda _: CaptumForward(model).without(batch, words))
    assert relative_error(forward(torch.zeros(1, len(places))), nothing) < 1e-6


def test_a_unit_of_several_tokens_is_replaced_whole() -> None:
    model = double("bert")
    text = replace(encoded(model, TEXTS[:1])[0], units=(0, 0, 1, 0, 1, 2, 2))
    forward = TextForward(model, text, TARGETS["plain"][:1])
    assert forward.whole.tolist() == [[1.0] * 3]
    other = text.tokens.input_ids.clone()
    other[[1, 3]] = model.baseline_token_id
    expected = model.objective(one(model, other), TARGETS["plain"][:1])
    assert relative_error(forward(torch.tensor([[0.0, 1.0, 1.0]])), expected) < 1e-6


def one(model: ExplainedModel, ids: Tensor) -> TokenBatch:
    """A batch of one text, by its ids."""
    return TokenBatch(ids[None], torch.ones_like(ids)[None], torch.zeros_like(ids, dtype=torch.bool)[None])


def test_a_seeded_block_draws_the_text_s_own_numbers_and_leaves_the_generators() -> None:
    texts = encoded(explained("bert"))
    cpu = torch.device("cpu")

    def drawn(i: int, seed: int) -> tuple[float, float]:
        with seeded(texts[i].tokens, seed, cpu):
            return torch.rand(1).item(), float(np.random.uniform())

    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert drawn(0, 0) == drawn(0, 0)
    assert len({drawn(0, 0), drawn(1, 0), drawn(0, 1)}) == 3
    with pytest.raises(TypeError), seeded(texts[0].tokens, 0, cpu):
        np.random.uniform(size="no size")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
