"""Token operations: ranks and ties, what they change, and what the model then sees."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.explained import Target, Tokens
from explainer.faithfulness.perturbation import Operator, blank, hide, keep, perturb, ranked, remove, replace, top_k
from tests.explainer.faithfulness.straight import logits_without
from tests.explainer.tools import double, encoded
from tests.families import TEXTS, explained

OPERATORS = get_args(Operator)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=10), st.integers(0, 12))
def test_the_highest_scorable_tokens_come_first_ties_by_position(tokens: list[tuple[int, bool]], k: int) -> None:
    scores = torch.tensor([float(score) for score, _ in tokens])
    scorable = torch.tensor([ok for _, ok in tokens])
    expected = sorted((i for i, (_, ok) in enumerate(tokens) if ok), key=lambda i: (-tokens[i][0], i))
    assert ranked(scores, scorable).tolist() == expected
    assert top_k(scores, scorable, k).nonzero()[:, 0].tolist() == sorted(expected[:k])


def test_nan_is_refused_at_a_scorable_token_only() -> None:
    scores = torch.tensor([torch.nan, 1.0, 2.0])
    assert top_k(scores, torch.tensor([False, True, True]), 1).tolist() == [False, False, True]
    with pytest.raises(ValueError, match="`scores` holds NaN"):
        top_k(scores, torch.tensor([True, True, True]), 1)


def test_infinite_scores_rank_above_specials() -> None:
    scores = torch.tensor([9.0, -torch.inf, -torch.inf, 1.0])
    scorable = torch.tensor([False, True, True, True])
    assert top_k(scores, scorable, 2).tolist() == [False, True, False, True]


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_every_operator_leaves_specials_alone(family: str) -> None:
    model = explained(family)
    text = encoded(model)[1]
    everything = torch.ones(len(text), dtype=torch.bool)
    special = text.tokens.input_ids[~text.scorable].tolist()
    assert remove(text, everything, 0).input_ids.tolist() == special
    assert keep(text, ~everything, 0).input_ids.tolist() == special
    replaced = replace(text, everything, model.baseline_token_id)
    assert (replaced.input_ids == model.baseline_token_id).tolist() == text.scorable.tolist()
    assert torch.equal(replaced.input_ids[~text.scorable], text.tokens.input_ids[~text.scorable])
    for changed, mask in (
        (blank(text, everything), blank(text, everything).zeroed),
        (hide(text, everything, 0), hide(text, everything, 0).hidden),
    ):
        assert torch.equal(changed.input_ids, text.tokens.input_ids)
        assert mask is not None
        assert torch.equal(mask, text.scorable)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_an_empty_mask_changes_no_answer(family: str, operator: Operator) -> None:
    model = explained(family)
    texts = encoded(model)
    nothing = [perturb(text, torch.zeros(len(text), dtype=torch.bool), operator, 0) for text in texts]
    logits, expected = (model.predict(s).logits for s in (nothing, [text.tokens for text in texts]))
    assert torch.allclose(logits, expected, atol=1e-6)


def test_perturb_is_the_operator_of_that_name() -> None:
    text = encoded(explained("bert"))[1]
    mask = torch.arange(len(text)) % 2 == 0
    expected: dict[Operator, Tokens] = {
        "delete": remove(text, mask, 0),
        "replace": replace(text, mask, 7),
        "blank": blank(text, mask),
        "hide": hide(text, mask, 0),
    }
    assert tuple(expected) == OPERATORS
    for operator, tokens in expected.items():
        assert perturb(text, mask, operator, 7).key == tokens.key
    assert len({tokens.key for tokens in expected.values()}) == 4


def test_remove_and_keep_of_one_mask_share_the_text() -> None:
    text = explained("bert").encode(["the film"], ["was good"])[0]
    mask = torch.tensor([True, True, False, False, True, False, False])
    decode = explained("bert").tokenizer.convert_ids_to_tokens
    assert decode(remove(text, mask, 0).input_ids.tolist()) == ["[CLS]", "film", "[SEP]", "good", "[SEP]"]
    assert decode(keep(text, mask, 0).input_ids.tolist()) == ["[CLS]", "the", "[SEP]", "was", "[SEP]"]
    types = remove(text, mask, 0).token_type_ids
    assert types is not None
    assert types.tolist() == [0, 0, 0, 1, 1]


# What the model sees


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_the_model_sees_what_a_bare_call_gives_it(family: str, operator: Operator) -> None:
    model = double(family)
    text = encoded(model)[1]
    for taken in ({2}, {1, 4, 5}, set(text.scorable.nonzero()[:, 0].tolist())):
        mask = torch.tensor([i in taken for i in range(len(text))])
        tokens = perturb(text, mask, operator, model.baseline_token_id)
        value = model.evaluate([tokens], Target.of([1])).value
        assert torch.allclose(value, logits_without(model, text, taken, operator)[1:2], atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama", "mistral"])
def test_a_hidden_token_may_be_any_token(family: str) -> None:
    """Its word does not matter, but its position does: the tokens after it do not move up."""
    model = double(family)
    text = model.encode([TEXTS[1]])[0]
    mask = torch.zeros(len(text), dtype=torch.bool)
    mask[3] = True
    target = Target.of([0])
    hidden = model.evaluate([hide(text, mask, 0)], target).value
    other = model.evaluate([hide(text, mask, 0).replaced(mask, 9)], target).value
    deleted = model.evaluate([remove(text, mask, 0)], target).value
    assert torch.allclose(hidden, other, atol=1e-7)
    assert (hidden - deleted).abs() > 1e-5
    assert (hidden - model.evaluate([text.tokens], target).value).abs() > 1e-5


def test_a_hidden_token_that_the_answer_is_read_at_still_sees_itself() -> None:
    model = double("llama")
    text = model.encode([TEXTS[1]])[0]
    last = torch.zeros(len(text), dtype=torch.bool)
    last[-1] = True
    hidden, other = hide(text, last, 0), hide(text, last, 0).replaced(last, 9)
    values = model.evaluate([hidden, other], Target.of([0, 0])).value
    assert (values[0] - values[1]).abs() > 1e-5


def test_hidden_and_whole_texts_share_a_batch() -> None:
    model = double("bert")
    texts = encoded(model)
    sequences = [hide(text, torch.arange(len(text)) % 3 == 1, 0) for text in texts] + [text.tokens for text in texts]
    target = Target.of([0, 1, 2, 0, 0, 1, 2, 0])
    together = model.evaluate(sequences, target).value
    alone = torch.cat([model.evaluate([one], target[i : i + 1]).value for i, one in enumerate(sequences)])
    assert torch.allclose(together, alone, atol=1e-7)
