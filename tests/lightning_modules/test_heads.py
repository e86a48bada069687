"""The heads of a fine-tuned model: gold choices by hand, broken labels, and a small model that is exported whole."""

from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.explained import ExplainedModel
from explainer.explained.text import TextEncoder
from lightning_modules.classifier import ClassifierTraining
from lightning_modules.data.text import TextExamples
from lightning_modules.heads import HEADS, UNASKED, AnsweringHead, TaggingHead
from tests.families import TAGS, tokenizer

ENCODER = TextEncoder(tokenizer("encoder"), 40)
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def examples(texts: list[str], labels: list[Any], pairs: list[str | None] | None = None) -> TextExamples:
    return TextExamples(list(range(len(texts))), texts, pairs or [None] * len(texts), labels)


def test_tags_stand_at_the_first_token_of_each_word() -> None:
    head, given = TaggingHead(TAGS), examples(["the funful film was", "bad"], [[span(4, 16, "PER")], []])
    texts = head.encode(ENCODER, given)
    gold = head.gold(texts, given.labels)
    #                          [CLS]    the fun ##ful   film was  [SEP]
    assert gold[0].tolist() == [UNASKED, 0, 1, UNASKED, 2, 0, UNASKED]
    assert gold[1].tolist() == [UNASKED, 0, *[UNASKED] * 5]
    plain = TaggingHead(["O", "PER"])
    assert plain.gold(texts[:1], [[span(4, 10, "PER")]])[0, 2:5].tolist() == [1, UNASKED, 0]


def span(start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[span(4, 10, "ORG")]], "`labels` must have 'B-ORG' or 'ORG', a label of the data"),
        ([[{"start": 4}]], "An entity must have `start`, `end` and `label`, got"),
        ([[span(3, 4, "PER")]], r"covers no token of the text"),
    ],
)
def test_broken_entities_are_named(labels: list[Any], message: str) -> None:
    head, given = TaggingHead(TAGS), examples(["the funful film was"], labels)
    with pytest.raises(ValueError, match=message):
        head.gold(head.encode(ENCODER, given), given.labels)


def test_heads_without_what_they_need_are_refused() -> None:
    with pytest.raises(ValueError, match="`labels` must have 'O'"):
        TaggingHead(["A", "B"])
    with pytest.raises(ValueError, match="`task` must be one of text-classification, token-classification"):
        ClassifierTraining(task="tagging")


def test_an_answer_is_its_two_ends() -> None:
    head, given = AnsweringHead([]), examples(["was it"], [[4, 10]], ["the funful film was"])
    texts = head.encode(ENCODER, given)
    assert texts[0].text_pair is not None
    assert head.gold(texts, given.labels).tolist() == [[5, 6]]
    assert texts[0].text_pair[slice(texts[0].offsets[5][0], texts[0].offsets[6][1])] == "funful"
    assert list(HEADS) == ["text-classification", "token-classification", "question-answering"]


@pytest.mark.parametrize(
    ("task", "words_of"), [("token-classification", "planted_tags"), ("question-answering", "planted_questions")]
)
def test_a_small_model_is_exported_whole(task: str, words_of: str, tmp_path: Path) -> None:
    module = ClassifierTraining(labels=list(TAGS), task=task, small={"words_of": words_of, **SIZES}).eval()
    module.export(tmp_path / "out")
    model = ExplainedModel.from_pretrained(tmp_path / "out")
    assert model.task.name == task
    given = examples(["Which pet does the text name?"], [[0, 4]], ["Emma has a dog as a pet."])
    given = given if task == "question-answering" else examples(["There was a short note about the river."], [[]])
    (text,) = model.encode(given.texts, given.text_pairs)
    assert model.tokenizer.unk_token_id not in text.tokens.input_ids.tolist()
    with torch.no_grad():
        expected = module(given)
    torch.testing.assert_close(model.predict([text.tokens]).logits, expected, atol=1e-5, rtol=1e-4)
    assert module._correct(given).shape == (1,)
