"""Words and entities of a model that tags: where tags are read, how words become entities, captions and foils."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, TokenClassificationPipeline

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, Readout, TokenClassification
from explainer.explained.tasks.token_classification import first_tokens
from tests.families import TAGS, TEXTS, explained

TASK = TokenClassification(TAGS)


def model(family: str = "bert") -> ExplainedModel:
    return explained(family, head=AutoModelForTokenClassification)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O O", []),
        ("B-PER I-PER O B-LOC", [(0, 2), (3, 4)]),
        ("B-PER B-PER", [(0, 1), (1, 2)]),
        ("I-PER I-PER I-LOC", [(0, 2), (2, 3)]),
        ("B-PER I-LOC I-LOC", [(0, 1), (1, 3)]),
    ],
)
def test_neighbouring_words_of_a_type_are_an_entity(tags: str, expected: list[tuple[int, int]]) -> None:
    assert TASK.entities([TAGS.index(tag) for tag in tags.split()]) == expected


def test_tags_without_a_prefix_go_on() -> None:
    plain = TokenClassification(("O", "PER", "LOC"))
    assert plain.entities([1, 1, 0, 1, 2]) == [(0, 2), (3, 4), (4, 5)]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_entities_are_those_of_transformers_own_pipeline() -> None:
    """Its strategy `first`: a word has the tag of its first token."""
    own = model()
    pipe = TokenClassificationPipeline(model=own.model, tokenizer=own.tokenizer, aggregation_strategy="first")
    for text in ("the film was great fun so it was awful", "not one of the funingful film plot"):
        expected = [(one["start"], one["end"], one["entity_group"]) for one in pipe(text)]
        found = Attributor.of(own, "random")(text, targets="all")
        shown = [(*one.target, one.target_label.split()[0]) for one in found.values() if isinstance(one.target, list)]
        assert shown == expected


def test_a_word_of_several_tokens_is_read_at_its_first() -> None:
    own = model()
    (text,) = own.encode(["the funingful film"])
    assert own.tokenizer.convert_ids_to_tokens(text.tokens.input_ids.tolist())[2:5] == ["fun", "##ing", "##ful"]
    assert first_tokens(text) == [1, 2, 5]
    for wanted in ((4, 13), (8, 9), "funingful", 3):
        (marked,), target = own.asked([text], [wanted])
        assert marked.tokens.anchors is not None
        assert marked.tokens.anchors.tolist() == [0, 0, 1, 0, 0, 0, 0]
        tag = own.predict([text.tokens]).logits[0, 2].argmax()
        assert target.choices.tolist() == [[int(tag)]]
    assert Attributor.of(own, "random")("the funingful film", target=(5, 6)).target == [4, 13]


def test_without_an_entity_the_word_that_is_nearest_to_one_is_explained() -> None:
    own = model()
    (text,) = own.encode(["the film was"])
    logits = torch.full((1, len(text), len(TAGS)), -9.0)
    logits[..., 0] = torch.tensor([0.0, 5.0, 1.0, 5.0, 0.0])
    (marked,), target = TASK.asked([text], Readout(logits))
    assert marked.tokens.anchors is not None
    assert marked.tokens.anchors.tolist() == [0, 0, 1, 0, 0]
    assert target.choices.tolist() == [[0]]
    assert TASK.describe([0], marked) == "O 'film'"
    assert TASK.several_of(text, Readout(logits), "all") == []


def test_the_most_probable_entity_is_the_predicted_one() -> None:
    own = model()
    (text,) = own.encode(["the film was great"])
    logits = torch.zeros(1, len(text), len(TAGS))
    for place, (tag, size) in enumerate([("B-PER", 3.0), ("I-PER", 3.0), ("O", 9.0), ("B-LOC", 5.0)], start=1):
        logits[0, place, TAGS.index(tag)] = size
    (marked,), target = TASK.asked([text], Readout(logits))
    assert TASK.describe(target.choices[0].tolist(), marked) == "LOC 'great'"
    (marked,), target = TASK.asked([text], Readout(logits), (0, 8))
    assert target.choices.tolist() == [[1, 2]]
    assert TASK.describe([1, 2], marked) == "PER 'the film'"
    assert TASK.describe([1, 4], marked) == "B-PER I-LOC 'the film'"


@pytest.mark.parametrize(
    ("foil", "expected"),
    [("LOC", [3, 4]), ("loc", [3, 4]), ("O", [0, 0]), ("B-LOC", [3, 3]), (4, [4, 4]), ("runner_up", [0, 0])],
)
def test_a_foil_is_a_tag_a_type_or_the_runner_up(foil: Any, expected: list[int]) -> None:
    own = model()
    (text,) = own.encode(["the film was great"])
    logits = torch.zeros(1, len(text), len(TAGS))
    logits[0, 1, 1] = logits[0, 2, 2] = 2.0
    logits[..., 0] = 1.0
    _, target = TASK.asked([text], Readout(logits), (0, 8), foil)
    assert target.foil is not None
    assert target.foil.tolist() == [expected]


def test_a_foil_that_is_the_target_or_unknown_is_refused() -> None:
    own = model()
    (text,) = own.encode(["the film"])
    logits = torch.zeros(1, len(text), len(TAGS))
    logits[..., 1] = 1.0
    with pytest.raises(ValueError, match="`foil` is the target itself"):
        TASK.asked([text], Readout(logits), (0, 3), "B-PER")
    with pytest.raises(ValueError, match="`foil` must be 'runner_up', one of the labels"):
        TASK.asked([text], Readout(logits), (0, 3), "ORG")


def test_a_second_text_and_a_text_without_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`text_pairs\[0\]` is 'pair', and words are tagged in one text"):
        model().encode(["text"], ["pair"])
    with pytest.raises(ValueError, match="the text has no word"):
        model().asked(model().encode([""]))


def test_the_probability_is_the_product_over_the_words() -> None:
    own = model()
    explanation = Attributor.of(own, "random")("the film was", target=(0, 8))
    assert explanation.probabilities is None
    with torch.no_grad():
        rows = own.model(**own.tokenizer("the film was", return_tensors="pt")).logits[0].softmax(dim=-1)
    assert explanation.probability == pytest.approx(float(rows[1].max() * rows[2].max()), rel=1e-5)
    one = Attributor.of(own, "random")("the film was", target=(0, 3))
    assert one.probabilities == pytest.approx(rows[1].tolist(), rel=1e-5)


def test_several_targets_of_texts_without_entities_are_none() -> None:
    attributor = Attributor.of(model(), "random")
    spans = attributor(TEXTS[:2], targets=[(0, 3), (4, 8)])
    assert [len(one) for one in spans] == [2, 2]
