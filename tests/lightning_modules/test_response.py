"""Training explainers of responses: they learn, are compared and exported, and a run resumes exactly."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from explainer.attributor import ResponseAttributor
from explainer.evaluation.responses import ResponseComparison
from lightning_modules.cli import main
from lightning_modules.commands.export import load_training
from lightning_modules.data.responses import AblatedResponses, ablated_responses, own_responses
from lightning_modules.response import ResponseTraining
from tests.explainer.explained.test_responses import model as tiny
from tests.families import WORDS
from tests.lightning_modules.conftest import write
from tests.lightning_modules.test_mask import checkpoint, whole_and_resumed

SETTINGS: dict[str, dict[str, int]] = {"response": {"width": 8, "depth": 1, "rank": 4, "heads": 2}, "attention": {}}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Prompts of three to five sentences, and some of one, which has nothing to be compared with."""
    folder, generator, paths = tmp_path_factory.mktemp("prompts"), random.Random(0), {}
    for split, count in (("train", 12), ("validation", 6), ("test", 5)):
        rows = []
        for i in range(count):
            words = [" ".join(generator.choices(WORDS.split(), k=3)) for _ in range(generator.randint(3, 5))]
            rows.append({"text": ". ".join(words if i else words[:1])})
        paths[split] = str(folder / f"{split}.jsonl")
        Path(paths[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


@pytest.fixture
def training(language_model: str, prompts: dict[str, str], configuration: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a training of six epochs."""
    configuration["model"] = {
        "class_path": "lightning_modules.response.ResponseTraining",
        "init_args": {
            "explained": language_model,
            "explainer_settings": SETTINGS["response"],
            "dtype": "float32",
            "new_tokens": 5,
            "n_masks": 4,
            "learning_rate": 0.02,
        },
    }
    configuration["data"] = {"files": prompts, "label": None, "batch_size": 6}
    configuration["trainer"]["max_epochs"] = 6
    return configuration


def training_loss(module: ResponseTraining, prompts: dict[str, str]) -> float:
    """The loss of all training prompts in one batch."""
    texts = [json.loads(line)["text"] for line in Path(prompts["train"]).read_text().splitlines()]
    options: dict[str, Any] = {"new_tokens": 5, "level": "sentence", "operator": "delete", "n_masks": 4}
    items = ablated_responses(module.explained, texts, **options, spans=1, seed=0)
    batch = items.batch(list(range(len(items))))
    with torch.no_grad():
        return float(module.losses(module.scored(batch), batch, {"additive"})["additive"])


@pytest.mark.parametrize("explainer", SETTINGS)
def test_an_explainer_learns_is_compared_and_exported(
    explainer: str, training: dict[str, Any], prompts: dict[str, str], tmp_path: Path
) -> None:
    training["model"]["init_args"] |= {"explainer": explainer, "explainer_settings": SETTINGS[explainer]}
    options = {"methods": {"random": {}, "leave_one_out": {}}, "output": str(tmp_path / "comparison")}
    training["trainer"]["callbacks"] = [
        {"class_path": "lightning_modules.callbacks.MethodComparison", "init_args": options},
        {"class_path": "lightning_modules.callbacks.Heatmaps"},
    ]
    config = write(training, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    for name in ("lds", "drop_at_1"):
        values = [event.value for event in events.Scalars(f"validation/{name}")]
        assert len(values) == 6
        assert all(value == value for value in values)
    path = checkpoint(tmp_path)
    module, stored = load_training(path)
    assert isinstance(module, ResponseTraining)
    untrained = ResponseTraining(**{k: v for k, v in module.hparams.items() if not k.startswith("_")})
    assert training_loss(module, prompts) < training_loss(untrained, prompts)
    assert set(stored["state_dict"]) == {f"explainer.{name}" for name, _ in module.explainer.named_parameters()}
    one = module.attributor("the film was. so it is", response=" good fun", sources="sentence")
    answers = [each.explained.evaluate([one.asked.text.tokens], one.asked.target) for each in (module, untrained)]
    assert torch.equal(answers[0].value, answers[1].value)

    main(["test", "--config", config, "--ckpt_path", str(path)])
    records = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert [record["method"] for record in records] == ["constant", "leave_one_out", "random", "explainer"]
    assert {record["n"] for record in records} == {4}  # the first prompt has one sentence
    texts = [json.loads(line)["text"] for line in Path(prompts["test"]).read_text().splitlines()]
    expected = ResponseComparison({"explainer": module.attributor.method})
    expected.update(module.explained, own_responses(module.explained, texts, 5, "sentence"))
    for metric in expected.columns:
        assert records[3][metric]["mean"] == pytest.approx(expected.records()[1][metric]["mean"], abs=1e-4, nan_ok=True)

    scores = ["--scores", str(tmp_path / "comparison" / "comparison.json")]
    main(["export", "--ckpt", str(path), "--output", str(tmp_path / "exported"), *scores])
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "n = 4 responses" in card
    assert f"| explainer | {records[3]['drop_at_1']['mean']:.3f} [" in card
    loaded = ResponseAttributor.from_pretrained(tmp_path / "exported")
    again = loaded("the film was. so it is", response=" good fun", sources="sentence")
    assert again.scores == one.scores
    assert len(set(again.scores)) == 2


def test_the_loss_is_0_at_additive_effects_and_2_at_their_opposite(language_model: str) -> None:
    """Effects that are the sum of the kept sources' weights, and a constant of each kind."""
    texts = ["a film. it is fun. so it is", "it is. a bad film. and dull"]
    options: dict[str, Any] = {"new_tokens": 4, "level": "sentence", "operator": "delete", "n_masks": 4, "seed": 0}
    items = ablated_responses(tiny("llama"), texts, **options, spans=0)
    weights, measured = [torch.tensor([1.0, -2.0, 0.5]), torch.tensor([-1.0, 3.0, 2.0])], []
    for one, weight in zip(items.ablations, weights, strict=True):
        values = one.kept.float() @ weight + 10.0 * one.kinds
        measured.append(replace(one, log_probabilities=values[:, None]))
    batch = AblatedResponses(items.explained, items.responses, measured).batch([0, 1])
    scores = torch.zeros(batch.tokens.input_ids.shape)
    for row, response, weight in zip(scores, batch.responses, weights, strict=True):
        for source, value in zip(response.sources, weight, strict=True):
            row[list(source.tokens)] = value / len(source.tokens)
    module = ResponseTraining(language_model, dtype="float32", explainer="attention")
    for factor, expected in ((3.0, 0.0), (-1.0, 2.0)):
        losses = module.losses(batch.source_scores(factor * scores), batch, {"additive"})
        assert float(losses["additive"]) == pytest.approx(expected, abs=1e-4)


def test_masks_take_a_source_s_tokens_alone_and_answers_are_kept_and_destroyed_by_them(language_model: str) -> None:
    """Scores of +-60 are masks of 1 and 0: the first source alone is kept, or all but the first."""
    module = ResponseTraining(language_model, dtype="float32", explainer="attention", kept=1.0, destroyed=1.0)
    texts = ["a film. it is fun. so it is", "it is. a bad film"]
    options: dict[str, Any] = {"new_tokens": 4, "level": "sentence", "operator": "delete", "n_masks": 4, "seed": 0}
    items = ablated_responses(module.explained, texts, **options, spans=1, measure=False)
    assert items.ablations is None
    batch = items.batch(list(range(len(items))))
    assert batch.design.shape[1] == 0
    scores = torch.full(batch.scored.shape, -60.0)
    scores[:, 0] = 60.0
    terms = module.losses(scores, batch, {"kept", "destroyed", "sparse"})
    assert float(terms["sparse"]) == pytest.approx(sum(60 / len(one.sources) for one in batch.responses) / 4, rel=1e-5)
    kept, destroyed = [], []
    for one in batch.responses:
        first = torch.zeros(len(one.text), dtype=torch.bool)
        first[list(one.sources[0].tokens)] = True
        rest, token = one.text.scorable & ~first, module.explained.baseline_token_id
        p, only, without = (
            module.explained.predict([tokens]).probabilities[0]
            for tokens in (one.text.tokens, *(one.text.tokens.replaced(away, token) for away in (rest, first)))
        )
        places = torch.arange(len(one.target_ids)), torch.tensor(one.target_ids)
        wanted = torch.where((p.argmax(dim=1) == places[1])[:, None], p, torch.eye(p.shape[1])[places[1]])
        kept.append(-(wanted * only.log()).sum(dim=1).mean())
        destroyed.append(-(1 - without[places]).log().mean())
    assert float(terms["kept"]) == pytest.approx(float(torch.stack(kept).mean()), rel=1e-4)
    assert float(terms["destroyed"]) == pytest.approx(float(torch.stack(destroyed).mean()), rel=1e-3)


def test_a_training_without_ablations_learns_its_teacher_and_its_masks(
    training: dict[str, Any], tmp_path: Path
) -> None:
    training["model"]["init_args"] |= {
        "additive": 0.0,
        "teachers": {"leave_one_out": {}},
        "matching": 1.0,
        "kept": 0.5,
        "destroyed": 0.5,
        "sparse": 0.1,
    }
    main(["fit", "--config", write(training, tmp_path / "config.yaml")])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    loss = {
        name: [event.value for event in events.Scalars(f"train/{name}")]
        for name in ("loss", "matching", "kept", "destroyed", "sparse", "agreement_leave_one_out")
    }
    epoch = len(loss["loss"]) // 6
    assert sum(loss["matching"][-epoch:]) < sum(loss["matching"][:epoch])
    for i, whole in enumerate(loss["loss"]):
        terms = loss["matching"][i] + 0.5 * loss["kept"][i] + 0.5 * loss["destroyed"][i] + 0.1 * loss["sparse"][i]
        assert whole == pytest.approx(terms, rel=1e-5)
        assert loss["agreement_leave_one_out"][i] == pytest.approx(1 - loss["matching"][i], abs=1e-5)


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(training: dict[str, Any], tmp_path: Path) -> None:
    """Same batches, same dropout: equal to the bit."""
    training["model"]["init_args"]["explainer_settings"] = {**SETTINGS["response"], "dropout": 0.3}
    training["trainer"]["max_epochs"] = 3
    expected, resumed = whole_and_resumed(training, tmp_path)
    assert resumed["longest_text"] == expected["longest_text"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"explainer": "lora"}, "`explainer` of responses must be one of attention, response, got 'lora'"),
        ({"dtype": "int8"}, "`dtype` must be one of float32, bfloat16, float16, got 'int8'"),
        ({"explainer_settings": {"width": 9, "heads": 2}}, "heads"),
        ({"warmup": 1.0}, "`warmup` is a share of the training"),
        ({"matching": 1.0}, "`matching` has a weight but there are no `teachers`"),
        ({"additive": -1.0}, "`additive` must be finite and not negative"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], message: str, language_model: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResponseTraining(language_model, **{"dtype": "float32", **arguments})


def test_half_precision_and_the_callback_of_labels_are_refused(
    training: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(training, tmp_path / "config.yaml")
    for option, message in (
        (["--trainer.precision", "bf16-true"], "`--trainer.precision bf16-true` would convert the explained model"),
        (
            ["--trainer.callbacks", "[{class_path: lightning_modules.callbacks.MethodFaithfulness}]"],
            "MethodFaithfulness belongs to the training of a mask explainer of labels",
        ),
    ):
        with pytest.raises(SystemExit):
            main(["fit", "--config", config, *option])
        assert message in capsys.readouterr().err
