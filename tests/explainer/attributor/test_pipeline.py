"""`transformers.pipeline("token-attribution")` gives what the attributor gives, in the shapes of the pipelines."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
import torch
from transformers import pipeline

from explainer.attributor import Attributor
from explainer.attributor.pipeline import TokenAttributionPipeline
from explainer.explained import ExplainedModel
from explainer.explainers import EXPLAINERS
from explainer.methods import SIG, Random
from explainer.methods.trained.amortized import Amortized
from explainer.scored_text import Word
from tests.explainer.tools import saved
from tests.families import TASKS, TEXTS, explained

KEYS = ["word", "score", "start", "end"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """root/model and root/attributor."""
    root = tmp_path_factory.mktemp("pipeline")
    model = ExplainedModel.from_pretrained(saved(explained("bert"), root / "model"))
    torch.manual_seed(1)
    Attributor(model, Amortized(EXPLAINERS["separate"](model).eval())).save_pretrained(root / "attributor")
    return root


def random_pipe(**options: object) -> TokenAttributionPipeline:
    return pipeline("token-attribution", model=Attributor(explained("bert"), Random()), device="cpu", **options)


def records(words: list[Word]) -> list[dict[str, object]]:
    return [dict(zip(KEYS, word, strict=False)) for word in words]


def words(texts: object, aggregation: str = "sum", **options: object) -> list[list[dict[str, object]]]:
    explanations = Attributor(explained("bert"), Random())(texts, **options)
    return [records(explanation.words(aggregation)) for explanation in explanations]


def test_an_exported_folder_is_loaded_by_its_name(folder: Path) -> None:
    pipe = pipeline("token-attribution", model=str(folder / "attributor"), device="cpu")
    expected = Attributor.from_pretrained(folder / "attributor")(TEXTS[0]).words()
    assert isinstance(pipe, TokenAttributionPipeline)
    assert pipe(TEXTS[0]) == records(expected)


def test_its_dtype_is_that_asked_for(folder: Path) -> None:
    pipe = pipeline("token-attribution", model=str(folder / "attributor"), dtype=torch.bfloat16, device="cpu")
    assert pipe.dtype == torch.bfloat16
    assert pipeline("token-attribution", model=str(folder / "attributor"), device="cpu").dtype == torch.float32


def test_a_classifier_and_a_method_by_name(folder: Path) -> None:
    expected = words(TEXTS)
    named = pipeline("token-attribution", model=str(folder / "model"), method="random", device="cpu")
    assert named(TEXTS) == expected
    model = explained("bert")
    given = {"model": model.model, "tokenizer": model.tokenizer, "device": "cpu"}
    assert pipeline("token-attribution", method=Random(), **given)(TEXTS) == expected


def test_one_text_gives_one_result_and_a_list_a_list() -> None:
    pipe = random_pipe()
    assert pipe(TEXTS[0]) == words(TEXTS)[0]
    assert pipe(TEXTS) == words(TEXTS)
    assert pipe([]) == []
    assert list(pipe(TEXTS[0])[0]) == KEYS
    assert json.loads(json.dumps(pipe(TEXTS))) == pipe(TEXTS)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_any_batch_size_gives_the_same(batch_size: int) -> None:
    assert random_pipe(batch_size=batch_size)(TEXTS) == words(TEXTS)
    assert random_pipe()(TEXTS, batch_size=batch_size) == words(TEXTS)


def test_a_generator_is_read_as_results_are_taken() -> None:
    read: list[str] = []

    def source() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    results = random_pipe()(source(), batch_size=2)
    assert next(iter(results)) == words(TEXTS)[0]
    assert len(read) < len(TEXTS)


def test_data_sets_and_their_columns_stream() -> None:
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0, 1]})
    assert list(random_pipe()(data, batch_size=3)) == words(TEXTS)
    assert list(random_pipe()(data["text"])) == words(TEXTS)


@pytest.mark.parametrize("strategy", ["none", "first", "average", "max", "sum"])
def test_aggregation_has_transformers_names(strategy: str) -> None:
    assert random_pipe(aggregation_strategy=strategy)(TEXTS) == words(TEXTS, strategy)
    assert random_pipe()(TEXTS, aggregation_strategy=strategy) == words(TEXTS, strategy)


def test_simple_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueError, match="attributions have no entities"):
        random_pipe()(TEXTS[0], aggregation_strategy="simple")


def test_targets_are_those_of_the_attributor() -> None:
    pipe = pipeline("token-attribution", model=Attributor(explained("bert"), SIG()), device="cpu")
    one = Attributor(explained("bert"), SIG())
    assert [word["score"] for word in pipe(TEXTS[0], target=2)] == [w.score for w in one(TEXTS[0], target=2).words()]
    every = pipe(TEXTS[:2], targets="all", batch_size=2)
    assert [list(by_label) for by_label in every] == [explained("bert").labels] * 2
    assert every[1]["LABEL_1"] == records(one(TEXTS[:2], targets="all")[1]["LABEL_1"].words())


@pytest.mark.parametrize("task", TASKS)
def test_every_task_and_option_gives_what_the_attributor_gives(task: str) -> None:
    attributor = Attributor.of(explained("bert", **TASKS[task]), "leave_one_out")
    pipe = pipeline("token-attribution", model=attributor, device="cpu")
    every = pipe(TEXTS[:2], targets="all", score="log_odds", fallback="sig", min_faithfulness=0.1, batch_size=2)
    expected = attributor(TEXTS[:2], targets="all", score="log_odds", fallback="sig", min_faithfulness=0.1)
    assert every == [{label: records(e.words()) for label, e in by_label.items()} for by_label in expected]
    if task != "regression":
        assert pipe(TEXTS[0], foil="runner_up") == records(attributor(TEXTS[0], foil="runner_up").words())


def test_units_are_the_entries_unless_words_are_asked_for() -> None:
    text = "the film was dull . but the plot is fun !"
    attributor = Attributor.of(explained("bert"), "leave_one_out")
    pipe = pipeline("token-attribution", model=attributor, device="cpu", units="sentence")
    explanation = attributor(text, units="sentence")
    assert pipe(text) == records(explanation.units())
    assert [entry["word"] for entry in pipe(text)] == ["the film was dull .", "but the plot is fun !"]
    assert pipe(text, aggregation_strategy="sum") == records(explanation.words())


def test_a_fallback_goes_through() -> None:
    result = random_pipe(fallback="sig", min_faithfulness=9)(TEXTS[0])
    assert result != words(TEXTS)[0]
    assert result == words(TEXTS[:1], fallback="sig", min_faithfulness=9)[0]


def test_pairs_say_which_text_a_word_is_of() -> None:
    result = random_pipe()({"text": "the film", "text_pair": "was good"})
    assert [(word["word"], word["segment"]) for word in result] == [("the", 0), ("film", 0), ("was", 1), ("good", 1)]


def test_words_already_split_stay_whole() -> None:
    pipe = random_pipe(is_split_into_words=True)
    assert [word["word"] for word in pipe(["the", "goodly-film"])] == ["the", "goodly-film"]
    assert [[word["word"] for word in result] for result in pipe([["a", "b c"], ["d"]])] == [["a", "b c"], ["d"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "sig"}, "`method` is for classifiers; this attributor explains by 'random'"),
        ({"steps": 3}, "has no option steps"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        random_pipe(**arguments)


def test_a_classifier_needs_a_method_and_its_tokenizer() -> None:
    with pytest.raises(ValueError, match="`method` must name how this classifier is explained"):
        pipeline("token-attribution", model=explained("bert").model)
    with pytest.raises(ValueError, match="`tokenizer` must come with a model"):
        pipeline("token-attribution", model=explained("bert").model, method="sig")


def test_importing_explainer_is_enough() -> None:
    code = "import explainer; from transformers.pipelines import check_task; print(check_task('token-attribution')[0])"
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == "token-attribution"
