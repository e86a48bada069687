"""captum's view of the explained model: equal logits, one text at a time, and the global generators left alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from explainer.methods.captum.forward import CaptumForward, TextForward, alone, seeded, text_by_text
from tests.explainer.tools import batch_of, double, encoded, relative_error
from tests.families import FAMILIES, TEXTS, explained


@pytest.mark.parametrize("family", FAMILIES)
def test_captum_s_view_of_the_model_gives_its_logits(family: str) -> None:
    model = double(family)
    batch = batch_of(model, side="left")
    forward = CaptumForward(model)
    logits = forward(forward.embeddings(batch), *forward.arguments(batch))
    assert torch.equal(logits, model(batch))
    rows = torch.tensor([2, 0])
    some = forward(forward.embeddings(batch)[rows], *forward.arguments(batch, rows))
    assert relative_error(some, model(batch)[rows]) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_s_presence_replaces_by_the_baseline_token(family: str) -> None:
    model = double(family)
    text = encoded(model, TEXTS[:1])[0]
    forward = TextForward(model, text.tokens, text.scorable)
    places = text.scorable.nonzero()[:, 0]
    presence = torch.ones(2, len(places))
    presence[1, 0] = 0
    other = text.tokens.input_ids.clone()
    other[places[0]] = model.baseline_token_id
    expected = [model.model(input_ids=ids[None]).logits for ids in (text.tokens.input_ids, other)]
    assert relative_error(forward.present(presence), torch.cat(expected)) < 1e-6
    batch = batch_of(model, TEXTS[:1])
    words = CaptumForward(model).embeddings(batch)
    nothing = model(batch, edit=lambda _: CaptumForward(model).without(batch, words))
    assert relative_error(forward.present(torch.zeros(1, len(places))), nothing) < 1e-6


def test_a_text_alone_has_no_padding() -> None:
    batch = batch_of(explained("bert"), side="left")
    for i, text in enumerate(TEXTS):
        one, expected = alone(batch, i), batch_of(explained("bert"), [text])
        assert torch.equal(one.input_ids, expected.input_ids)
        assert torch.equal(one.scorable, expected.scorable)
        assert bool((one.attention_mask == 1).all())
        assert one.token_type_ids is not None
        assert one.token_type_ids.shape == one.input_ids.shape


def test_text_by_text_puts_each_value_at_its_token() -> None:
    model = explained("bert")
    batch = batch_of(model, [*TEXTS, ""], side="left")

    def ids(forward: TextForward, target: int) -> Tensor:
        return forward.ids[0] * 10 + target

    scores = text_by_text(model, batch, torch.tensor([0, 1, 2, 0, 1]), ids)
    expected = batch.input_ids * 10 + torch.tensor([0, 1, 2, 0, 1])[:, None]
    assert torch.equal(scores, (expected * batch.scorable).float())


def test_a_seeded_block_draws_the_text_s_own_numbers_and_leaves_the_generators() -> None:
    rows = batch_of(explained("bert")).rows()
    cpu = torch.device("cpu")

    def drawn(i: int, seed: int) -> tuple[float, float]:
        with seeded(rows[i], seed, cpu):
            return torch.rand(1).item(), float(np.random.uniform())

    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert drawn(0, 0) == drawn(0, 0)
    assert len({drawn(0, 0), drawn(1, 0), drawn(0, 1)}) == 3
    with pytest.raises(TypeError), seeded(rows[0], 0, cpu):
        np.random.uniform(size="no size")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
