"""Annotated batches: padded and moved together, targets mixed as asked, states as the explained model has them."""

import pytest
import torch

from explainer.explained import Readout, Target
from explainer.explainers.side import states_of
from lightning_modules.data.annotations import Annotations, kept_states, mixed_targets
from tests.explainer.tools import fresh
from tests.families import TASKS, TEXTS, explained


def annotations(**task: object) -> Annotations:
    """Of four texts and one teacher, whose scores are the places of the tokens."""
    model = explained("bert", **task)
    texts = model.encode(TEXTS)
    readout = model.predict([text.tokens for text in texts])
    teacher = [torch.arange(len(text)).float() for text in texts]
    return Annotations(model, texts, readout, mixed_targets(readout, 0.0, 0), {"places": teacher})


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_is_the_texts_of_its_places(task: str) -> None:
    whole = annotations(**TASKS[task])
    batch = whole.batch([2, 0])
    assert [text.text for text in batch.texts] == [TEXTS[2], TEXTS[0]]
    assert len(batch) == len(batch.tokens) == 2
    assert torch.equal(batch.target.choices, whole.target.choices[[2, 0]])
    assert torch.equal(batch.tokens.input_ids[0, : len(batch.texts[0])], batch.texts[0].tokens.input_ids)
    assert batch.states is None
    for text, row, teacher in zip(
        batch.texts, batch.teachers["places"], batch.standardized_teachers["places"], strict=True
    ):
        assert row[: len(text)].tolist() == list(range(len(text)))
        assert not row[len(text) :].any()
        own = teacher[: len(text)][text.scorable]
        assert own.mean().item() == pytest.approx(0, abs=1e-6)
        assert len(own) == 1 or own.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    # A predicted label is kept with the whole text's answer.
    answer = whole.readout.logits if whole.readout.probabilities is None else whole.readout.probabilities
    assert torch.equal(batch.wanted, answer[[2, 0]])


def test_a_batch_moves_as_a_whole() -> None:
    batch = annotations().batch([0, 1]).to(torch.device("meta"))
    moved = [batch.tokens.input_ids, batch.target.choices, batch.wanted, *batch.teachers.values()]
    assert all(tensor.device.type == "meta" for tensor in moved)


def test_other_labels_are_drawn_at_their_share_and_never_the_predicted_one() -> None:
    logits = torch.rand(3000, 1, 4, generator=torch.Generator().manual_seed(0))
    for link in ("softmax", "sigmoid"):
        readout = Readout(logits, link)  # type: ignore[arg-type]
        predicted = readout.predicted().classes
        assert torch.equal(mixed_targets(readout, 0.0, seed=0).classes, predicted)
        mixed = mixed_targets(readout, 0.3, seed=0).classes
        assert abs((mixed != predicted).float().mean().item() - 0.3) < 0.03
        assert set(((mixed - predicted) % 4).tolist()) == {0, 1, 2, 3}


def test_the_only_label_is_the_target_and_has_no_other() -> None:
    readout = Readout(torch.randn(5, 1, 1), "identity")
    assert mixed_targets(readout, 0.0, seed=0).classes.tolist() == [0] * 5
    with pytest.raises(ValueError, match="`other_class` needs a second label"):
        mixed_targets(readout, 0.1, seed=0)


@pytest.mark.parametrize(("dtype", "kept"), [(torch.float32, torch.float16), (torch.bfloat16, torch.bfloat16)])
def test_kept_states_are_the_explained_model_s_own(dtype: torch.dtype, kept: torch.dtype) -> None:
    model = fresh("bert")
    model.to(dtype)
    texts = model.encode(["the film was great fun", "bad"])
    whole = Annotations(
        model, texts, model.predict([t.tokens for t in texts]), Target.of([0, 1]), {}, kept_states(model, texts)
    )
    states = whole.batch([0, 1]).states
    assert states is not None
    for i, text in enumerate(texts):
        _, expected = states_of(model, model.collate([text]))
        assert states.dtype == kept
        assert torch.allclose(states[i, : len(text)].float(), torch.stack(expected, dim=2)[0].float(), atol=1e-2)
