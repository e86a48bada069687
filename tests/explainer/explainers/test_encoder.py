"""The encoder explainer: its own tokenizer's pieces, on the explained model's tokens."""

from dataclasses import replace
from itertools import groupby

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.explainers import EncoderExplainer
from explainer.export.exportable import ExportableAttributor
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import batch_of, explainer_of, fresh, relative_error
from tests.families import explained

MODEL = explained("llama", prompted=True)
POOLS = {"max": torch.amax, "mean": torch.mean, "min": torch.amin}


def counted(explainer: EncoderExplainer, monkeypatch: pytest.MonkeyPatch) -> list[TokenBatch]:
    """The windows that the explainer reads from now on; the number of each piece is its position in its window."""
    seen: list[TokenBatch] = []

    def read(reader: ExplainedModel, batch: TokenBatch, target: Target) -> Tensor:
        seen.append(batch)
        return torch.arange(batch.input_ids.shape[1]).repeat(len(batch), 1).float()

    monkeypatch.setattr(explainer, "read", read)
    return seen


def built(model: ExplainedModel = MODEL, **settings: str) -> EncoderExplainer:
    torch.manual_seed(0)
    explainer = explainer_of(model, "encoder", **settings).eval()
    assert isinstance(explainer, EncoderExplainer)
    return explainer


@pytest.mark.parametrize("pooling", POOLS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma", "t5"])
def test_a_token_has_the_pooled_number_of_the_pieces_that_it_shares_characters_with(
    family: str, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emoji of several tokens, Chinese, combining accents, white space, and tokens that begin with a space."""
    model = explained(family, prompted=True)
    explainer = built(model, pooling=pooling)
    counted(explainer, monkeypatch)
    texts = ["goodly films 😀 , awfulful fun", "这部电影 bad\n\n  the plot", "e\u0301 naïve \u200d🧑\u200d🚀 dull"]
    batch = model.collate(model.encode(texts), side="left")
    rows = batch.split(explainer(model, batch, Target.of([0, 1, 0])))
    for text, row in zip(model.encode(texts), rows, strict=True):
        encoding = explainer.reader.tokenizer(text.text, return_offsets_mapping=True, return_special_tokens_mask=True)
        marks = zip(encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
        pieces = [(*place, i) for i, (place, added) in enumerate(marks) if not added]
        for (start, end), scorable, score in zip(text.offsets, text.scorable, row, strict=True):
            shared = [i for first, last, i in pieces if max(start, first) < min(end, last)]
            later = [i for first, _, i in pieces if first >= start]
            numbers = torch.tensor(shared or later[:1] or [pieces[-1][2]]).float()
            assert score == pytest.approx(float(POOLS[pooling](numbers)) if scorable else 0.0)


def test_a_long_text_is_read_in_windows_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("gpt2")
    model.text.max_tokens = None
    explainer = built(model)
    explainer.reader.text.max_tokens = 12  # two special tokens, the target and nine pieces
    seen = counted(explainer, monkeypatch)
    text = "the film was great fun and the plot was dull but it is not bad really one of the good film"
    batch = batch_of(model, [text, "bad"])
    scores = batch.split(explainer(model, batch, Target.of([0, 1])))
    windows = seen[0].split(seen[0].input_ids)
    assert [len(window) for window in windows] == [11, 11, 5, 3]
    read = explainer.reader.tokenizer.decode(torch.cat(windows), skip_special_tokens=True)
    assert read == f"{text} bad"
    assert [piece for piece, _ in groupby(scores[0].tolist())] == [*range(1, 10), *range(1, 10), 1, 2, 3]


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_the_explained_model_does_not_read_is_not_read(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("gpt2")
    monkeypatch.setattr(model.text.tokenizer, "truncation_side", side)
    model.text.max_tokens = 3
    explainer = built(model)
    seen = counted(explainer, monkeypatch)
    with pytest.warns(UserWarning, match="are not read"):
        batch = batch_of(model, ["bad film the plot was dull"])
    explainer(model, batch, Target.of([0]))
    read = explainer.reader.tokenizer.decode(seen[0].input_ids[0], skip_special_tokens=True)
    assert read == model.tokenizer.decode(batch.input_ids[0]).strip()


def test_a_text_and_its_pair_are_read_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("bert")
    explainer = built(model)
    counted(explainer, monkeypatch)
    batch = model.collate(model.encode(["bad film", "fun"], ["the plot", "great"]))
    scores = batch.split(explainer(model, batch, Target.of([0, 1])))
    assert [row.tolist() for row in scores] == [[0, 1, 2, 0, 4, 5, 0], [0, 1, 0, 3, 0]]
    explainer.reader.text.max_tokens = 7
    with pytest.raises(ValueError, match="and its pair have 7 tokens of the encoder, which takes 6 beside the target"):
        explainer(model, batch, Target.of([0, 1]))


def test_a_text_in_which_the_encoder_sees_nothing_is_read_at_its_special_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explainer = built()
    batch = batch_of(MODEL, ["\u200d \n", "bad"])
    scores = batch.split(explainer(MODEL, batch, Target.of([0, 0])))
    assert (scores[0][batch.split(batch.scorable)[0]] != 0).all()


def test_scores_of_prompted_texts_do_not_depend_on_padding_side_or_company() -> None:
    explainer, texts = built(), ["the film was great 😀", "bad", "dull , awful films"]
    alone = torch.cat([explainer(MODEL, batch_of(MODEL, [text]), Target.of([1]))[0] for text in texts])
    for side in ("left", "right"):
        batch = batch_of(MODEL, texts, side)
        assert relative_error(torch.cat(batch.split(explainer(MODEL, batch, Target.of([1] * 3)))), alone) < 1e-5


def test_ids_without_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="reads texts, and `batch` holds token ids alone"):
        built()(MODEL, replace(batch_of(MODEL), texts=None), Target.of([0] * 4))


def test_a_program_of_ids_is_refused() -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match="reads texts by a tokenizer of its own, and a program reads the ids"):
        ExportableAttributor(model, Amortized(built(model)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "median"}, "`pooling` must be one of max, mean, min, got 'median'"),
        ({"encoder": "./nowhere"}, "'./nowhere' is a path, and there is nothing at it"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderExplainer(MODEL, **settings)


def test_a_setting_of_another_type_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="`encoder` of the encoder explainer must be a string, got 3"):
        EncoderExplainer.check_settings({"encoder": 3, "pooling": "max"}, {})
