"""Tokens and padded batches: what selection, padding and alignment do to ids, masks and columns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.explained import TokenBatch, Tokens
from explainer.explained.batch import collate
from tests.explainer.tools import batch_of, encoded
from tests.families import FAMILIES, explained

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=5)
SIDES = st.sampled_from(["left", "right"])


def rows_of(lengths: list[int], types: bool = False) -> list[Tokens]:
    """Rows whose ids are all different and never 0, which pads."""
    start = 1
    rows = []
    for length in lengths:
        ids = torch.arange(start, start + length)
        rows.append(Tokens(ids, ids % 2 if types else None))
        start += length
    return rows


def test_select_deletes_ids_and_types_together() -> None:
    row = Tokens(torch.tensor([5, 6, 7]), torch.tensor([0, 1, 1]))
    chosen = row.select(torch.tensor([True, False, True]))
    assert chosen.input_ids.tolist() == [5, 7]
    assert chosen.token_type_ids is not None
    assert chosen.token_type_ids.tolist() == [0, 1]
    assert len(chosen) == 2


def test_select_without_types_has_none() -> None:
    assert Tokens(torch.tensor([5, 6])).select(torch.tensor([True, False])).token_type_ids is None


def test_replaced_leaves_length_types_and_the_original() -> None:
    row = Tokens(torch.tensor([5, 6, 7]), torch.tensor([0, 1, 1]))
    changed = row.replaced(torch.tensor([False, True, False]), 9)
    assert changed.input_ids.tolist() == [5, 9, 7]
    assert changed.token_type_ids is row.token_type_ids
    assert row.input_ids.tolist() == [5, 6, 7]


@settings(deadline=None, max_examples=40)
@given(LENGTHS, SIDES, st.booleans())
def test_rows_of_a_collated_batch_are_the_rows_given(lengths: list[int], side: str, types: bool) -> None:
    rows = rows_of(lengths, types)
    batch = collate(rows, pad_token_id=0, side=side)
    assert len(batch) == len(rows)
    for found, expected in zip(batch.sequences(), rows, strict=True):
        assert torch.equal(found.input_ids, expected.input_ids)
        assert (found.token_type_ids is None) == (expected.token_type_ids is None)
        if found.token_type_ids is not None:
            assert torch.equal(found.token_type_ids, expected.token_type_ids)


@settings(deadline=None, max_examples=40)
@given(LENGTHS, SIDES)
def test_alone_is_every_text_without_padding(lengths: list[int], side: str) -> None:
    rows = rows_of(lengths, types=True)
    for one, row in zip(collate(rows, pad_token_id=0, side=side).unbatched(), rows, strict=True):
        assert torch.equal(one.input_ids, row.input_ids[None])
        assert one.token_type_ids is not None
        assert torch.equal(one.token_type_ids, row.token_type_ids[None])
        assert one.attention_mask.bool().all()


@settings(deadline=None, max_examples=40)
@given(LENGTHS, SIDES)
def test_aligned_puts_padding_right_and_its_order_leads_back(lengths: list[int], side: str) -> None:
    batch = collate(rows_of(lengths), pad_token_id=0, side=side)
    aligned, order = batch.right_padded()
    expected = collate(rows_of(lengths), pad_token_id=0, side="right")
    assert torch.equal(aligned.input_ids, expected.input_ids)
    assert torch.equal(aligned.attention_mask, expected.attention_mask)
    back = aligned.input_ids if order is None else aligned.input_ids.gather(1, order.argsort(dim=1))
    assert torch.equal(back, batch.input_ids)


def test_aligned_returns_a_right_padded_batch_itself() -> None:
    batch = collate(rows_of([3, 1]), pad_token_id=0)
    aligned, order = batch.right_padded()
    assert aligned is batch
    assert order is None


def test_aligned_moves_scorable_and_types_too() -> None:
    row = Tokens(torch.tensor([5, 6]), torch.tensor([0, 1]))
    other = Tokens(torch.tensor([5, 6, 7]), torch.tensor([0, 0, 1]))
    scorable = [torch.tensor([False, True]), torch.tensor([False, True, True])]
    aligned, _ = collate([row, other], scorable, pad_token_id=0, side="left").right_padded()
    assert aligned.scorable.tolist() == [[False, True, False], [False, True, True]]
    assert aligned.token_type_ids is not None
    assert aligned.token_type_ids.tolist() == [[0, 1, 0], [0, 0, 1]]


@settings(deadline=None, max_examples=40)
@given(LENGTHS, SIDES)
def test_position_ids_count_from_the_first_real_token(lengths: list[int], side: str) -> None:
    batch = collate(rows_of(lengths), pad_token_id=0, side=side)
    for length, positions in zip(lengths, batch.split(batch.position_ids), strict=True):
        assert positions.tolist() == list(range(length))


def test_repeat_repeats_the_whole_batch() -> None:
    batch = collate(rows_of([2, 1], types=True), pad_token_id=0).repeat(2)
    assert batch.input_ids.tolist() == [[1, 2], [3, 0], [1, 2], [3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1], [1, 0]] * 2
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.shape == (4, 2)


def test_scorable_defaults_to_false() -> None:
    assert not collate(rows_of([2, 1]), pad_token_id=0).scorable.any()


def test_to_moves_every_tensor() -> None:
    batch = collate(rows_of([2, 1], types=True), pad_token_id=0).to("meta")
    assert batch.device.type == "meta"
    assert {t.device.type for t in (batch.attention_mask, batch.scorable, batch.token_type_ids)} == {"meta"}


@pytest.mark.parametrize("family", FAMILIES)
def test_split_drops_exactly_the_padding(family: str) -> None:
    model = explained(family)
    texts = encoded(model)
    batch: TokenBatch = batch_of(model, side="left")
    for text, ids, scorable in zip(texts, batch.split(batch.input_ids), batch.split(batch.scorable), strict=True):
        assert torch.equal(ids, text.tokens.input_ids)
        assert torch.equal(scorable, text.scorable)


def test_blanked_tokens_stay_and_their_masks_add_up_and_are_deleted_with_them() -> None:
    row = Tokens(torch.tensor([1, 2, 3]))
    one = row.blanked(torch.tensor([True, False, False])).blanked(torch.tensor([False, False, True]))
    assert one.input_ids.tolist() == [1, 2, 3]
    assert one.zeroed is not None
    assert one.zeroed.tolist() == [True, False, True]
    left = one.select(torch.tensor([False, True, True]))
    assert left.zeroed is not None
    assert left.zeroed.tolist() == [False, True]
    assert len({row.key, one.key, left.key}) == 3


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)])
def test_restored_undoes_the_alignment(shape: tuple[int, ...]) -> None:
    batch = collate([Tokens(torch.tensor([5])), Tokens(torch.tensor([6, 7, 8]))], pad_token_id=0, side="left")
    aligned, order = batch.right_padded()
    values = torch.arange(torch.Size(shape).numel()).view(shape)
    there = values if order is None else values.gather(1, order.view(2, 3, *[1] * (len(shape) - 2)).expand(shape))
    assert torch.equal(aligned.original_order(there, order), values)


def test_the_texts_of_a_batch_are_those_of_its_rows() -> None:
    texts = encoded(explained("bert"))
    batch = explained("bert").collate(texts, side="left")
    assert batch.texts == tuple(texts)
    assert batch.to("cpu").texts == batch.right_padded()[0].texts == batch.columns(2).texts == tuple(texts)
    assert batch[1:3].texts == tuple(texts[1:3])
    assert batch[torch.tensor([2, 0])].texts == (texts[2], texts[0])
    assert batch.repeat(2).texts == (*texts, *texts)
    assert [alone.texts for alone in batch.unbatched()] == [(text,) for text in texts]
    assert TokenBatch(*batch.tensors).texts is None
