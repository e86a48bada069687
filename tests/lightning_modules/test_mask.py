"""Training mask explainers: every variant learns, checkpoints hold what is trained, and runs resume exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from explainer.attributor import Attributor
from explainer.explained import Target
from explainer.explained.pretrained import DTYPES
from explainer.explainers.losses import prediction_kept, soft_target
from explainer.explainers.masking import blend
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.set_values import drawn_set_values
from explainer.methods.trained.amortized import Amortized
from lightning_modules.cli import main
from lightning_modules.commands.export import load_training
from lightning_modules.data.annotations import kept_states
from lightning_modules.data.text import TextData
from lightning_modules.mask import MaskTraining
from tests.explainer.tools import saved
from tests.families import PROMPT, TASKS, explained
from tests.lightning_modules.conftest import write


class StopAfterSecondEpoch(Callback):
    """Ends a run as an interruption would: after the checkpoint of its second epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


RECIPES: dict[str, dict[str, Any]] = {
    "matching alone": {},
    "aml alone": {"teachers": None, "matching": 0.0, "kept": 1.0, "destroyed": 1.0, "sparse": 0.3},
    "deleted tokens alone": {"teachers": None, "matching": 0.0, "ranking": 1.0, "draws": 2, "temperature": 1.0},
    "replaced tokens alone": {"teachers": None, "matching": 0.0, "ranking": 1.0, "draws": 2, "operator": "replace"},
    "in sequence": {"matching": [[0, 1], [0.5, 1], [0.5, 0]], "kept": [[0, 0], [0.5, 0], [0.5, 1]]},
    "two teachers, any class": {"teachers": {"sig": {}, "attn_lrp": {}}, "other_class": 0.5},
    "teachers in turn": {"teachers": {"sig": {}, "attn_lrp": {}}, "mixing": "alternate"},
}


SETTINGS: dict[str, dict[str, int]] = {
    "lora": {"rank": 2},
    "separate": {},
    "side": {"width": 8, "rank": 4, "heads": 2},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("explainer", SETTINGS)
def test_every_recipe_trains_the_explainer_and_nothing_else(
    explainer: str, recipe: dict[str, Any], configuration: dict[str, Any], tmp_path: Path
) -> None:
    arguments = configuration["model"]["init_args"]
    arguments |= recipe | {"explainer": explainer, "explainer_settings": SETTINGS[explainer]}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    module, stored = load_training(checkpoint(tmp_path))
    assert isinstance(module, MaskTraining)
    untrained = MaskTraining(**{k: v for k, v in module.hparams.items() if not k.startswith("_")})
    trained = module.explainer.trained(module.explained)
    before = untrained.explainer.trained(untrained.explained)
    assert set(stored["state_dict"]) == set(module.state_dict())
    assert len(stored["state_dict"]) == len(trained)
    moved = [name for name in trained if not torch.equal(trained[name], before[name])]
    assert len(moved) > len(trained) / 2
    batch = module.explained.collate(module.explained.encode(["the film was great fun"]))
    assert torch.equal(module.explained(batch).logits, untrained.explained(batch).logits)


@pytest.mark.parametrize("recipe", ["matching alone", "deleted tokens alone", "aml alone"])
@pytest.mark.parametrize("explainer", SETTINGS)
def test_the_median_token_of_the_validation_texts_has_the_score_0(
    explainer: str, recipe: str, configuration: dict[str, Any], tmp_path: Path
) -> None:
    """For each label where the head has a score of each; AML's own losses say themselves where 0 is."""
    arguments = configuration["model"]["init_args"]
    arguments |= RECIPES[recipe] | {"explainer": explainer, "explainer_settings": SETTINGS[explainer]}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    module, _ = load_training(checkpoint(tmp_path))
    assert isinstance(module, MaskTraining)
    data = TextData(**configuration["data"])
    data.setup()
    texts = module.explained.encode(data.examples("validation").texts)
    target = module.explained.predicted(texts)
    scores = module.attributor.method.attribute(module.explained, texts, target).scores
    groups: dict[int, list[Tensor]] = {}
    for label, row, text in zip(target.classes.tolist(), scores, texts, strict=True):
        groups.setdefault(label if explainer == "side" else 0, []).append(row[text.scorable])
    medians = [abs(float(torch.cat(rows).median())) for rows in groups.values()]
    assert (max(medians) < 1e-5) == (recipe != "aml alone")


def test_a_checkpoint_loads_with_weights_only_and_holds_no_frozen_weight(
    configuration: dict[str, Any], tmp_path: Path
) -> None:
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    saved = torch.load(checkpoint(tmp_path), weights_only=True)
    assert saved["state_dict"]
    assert all("lora_" in name or name.startswith("explainer.") for name in saved["state_dict"])


def whole_and_resumed(configuration: dict[str, Any], tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checkpoints of a run, and of one that was stopped after two epochs and resumed; equal steps and weights."""
    whole = write(configuration, tmp_path / "whole.yaml")
    main(["fit", "--config", whole])
    expected = torch.load(checkpoint(tmp_path), weights_only=True)
    stop = ["--trainer.callbacks", "[{class_path: tests.lightning_modules.test_mask.StopAfterSecondEpoch}]"]
    main(["fit", "--config", whole, *stop])
    half = tmp_path / "run" / "checkpoints" / "last-v1.ckpt"  # the folder has a whole run already
    assert torch.load(half, weights_only=True)["epoch"] == 1
    main(["fit", "--config", whole, "--ckpt_path", str(half)])
    resumed = torch.load(half, weights_only=True)
    assert resumed["global_step"] == expected["global_step"]
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name
    return expected, resumed


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(configuration: dict[str, Any], tmp_path: Path) -> None:
    """Same batches, same learning rates, same optimizer state, same dropout: equal to the bit."""
    configuration["trainer"]["max_epochs"] = 4
    configuration["model"]["init_args"]["explainer_settings"] = {"rank": 2, "dropout": 0.3}
    whole_and_resumed(configuration, tmp_path)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("explainer", SETTINGS)
def test_an_explainer_of_every_task_is_trained_compared_and_exported(
    explainer: str, task: str, models: dict[str, str], configuration: dict[str, Any], tmp_path: Path
) -> None:
    """Matching and keeping for all tasks; destroying and other labels where they have a meaning."""
    configuration["model"]["init_args"] |= {
        "explained": models[task],
        "explainer": explainer,
        "explainer_settings": SETTINGS[explainer],
        "teachers": {"subset_regression": {"n_subsets": 4}, "attn_lrp": {}},
        "kept": 1.0,
        "sparse": 0.1,
        "learning_rate": 0.01,
    } | ({} if task == "regression" else {"destroyed": 1.0, "other_class": 0.5})
    configuration["trainer"]["callbacks"] = [
        {"class_path": f"lightning_modules.callbacks.{name}", "init_args": options}
        for name, options in (
            ("Heatmaps", {"n_texts": 2}),
            ("MethodFaithfulness", {"methods": {"random": {}}, "n_texts": 4, "n_shown": 1}),
            ("MethodComparison", {"methods": {"random": {}}, "output": str(tmp_path / "comparison")}),
        )
    ]
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    area = "value_aopc_comprehensiveness" if task == "regression" else "aopc_comprehensiveness"
    for name in ("faithfulness", area, "spearman_attn_lrp"):
        values = [event.value for event in events.Scalars(f"validation/{name}")]
        assert len(values) == 2
        assert all(value == value for value in values)
    assert len(events.Images("validation/heatmaps")) == 2
    path = checkpoint(tmp_path)
    main(["test", "--config", config, "--ckpt_path", str(path)])
    records = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert [record["method"] for record in records] == ["random", "explainer"]
    scores = ["--scores", str(tmp_path / "comparison" / "comparison.json")]
    main(["export", "--ckpt", str(path), "--output", str(tmp_path / "exported"), *scores])
    assert f"| explainer | {records[1][area]['mean']:.3f} [" in (tmp_path / "exported" / "README.md").read_text()
    module, _ = load_training(path)
    assert module.attributor is not None
    texts = ["the film was great fun", "bad"]
    loaded = Attributor.from_pretrained(tmp_path / "exported")(texts)
    assert [one.scores for one in loaded] == [one.scores for one in module.attributor(texts)]
    assert all(any(one.scores) for one in loaded)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"destroyed": 1.0}, "`destroyed` needs the target's probability, and `explained` predicts a value"),
        ({"other_class": 0.5}, "`other_class` needs a second label"),
    ],
)
def test_losses_without_a_meaning_for_a_regression_are_refused(
    arguments: dict[str, Any], message: str, models: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=message):
        MaskTraining(models["regression"], teachers={"sig": {}}, **arguments)


@pytest.mark.parametrize("labels", ["words", "none"])
def test_labels_are_not_read(labels: str, configuration: dict[str, Any], files: dict[str, str], tmp_path: Path) -> None:
    """A column of words, or of nothing, does not stop a training that uses no labels."""
    changed = {}
    for split, path in files.items():
        lines = Path(path).read_text().splitlines()
        rows = [json.loads(line) | {"label": "good" if labels == "words" else None} for line in lines]
        changed[split] = str(tmp_path / f"{split}.jsonl")
        Path(changed[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    configuration["data"]["files"] = changed
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    assert torch.load(checkpoint(tmp_path), weights_only=True)["global_step"] == 6


@pytest.mark.parametrize("explainer", SETTINGS)
def test_exported_attributor_equals_the_checkpoint_to_the_bit(
    explainer: str, configuration: dict[str, Any], files: dict[str, str], tmp_path: Path
) -> None:
    words = [len(json.loads(line)["text"].split()) for line in Path(files["train"]).read_text().splitlines()]
    longest = max(words) + 2  # one token per word, and the two special ones
    configuration["model"]["init_args"] |= {
        "explainer": explainer,
        "explainer_settings": SETTINGS[explainer],
        "seed": 1,
    }
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "exported")])
    module, _ = load_training(checkpoint(tmp_path))
    texts = ["the film was great fun", "bad"]
    assert isinstance(module, MaskTraining)
    loaded = Attributor.from_pretrained(tmp_path / "exported")
    scores = [explanation.scores for explanation in loaded(texts)]
    assert scores == [explanation.scores for explanation in module.attributor(texts)]
    assert isinstance(loaded.method, Amortized)
    assert loaded.method.explainer.longest_text == longest
    assert any(scores[0])
    assert "exported" in (tmp_path / "exported" / "README.md").read_text()


def test_matching_learns_its_teacher(configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["trainer"]["max_epochs"] = 15
    configuration["model"]["init_args"] |= {"explainer": "separate", "explainer_settings": {}, "learning_rate": 3e-3}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    losses = [event.value for event in events.Scalars("train/matching")]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    for name in ("aopc_comprehensiveness", "aopc_sufficiency", "faithfulness", "spearman_sig"):
        assert len(events.Scalars(f"validation/{name}")) == 15


TWO = {"sig": {}, "quadrature": {"method": "sig", "n_steps": 2}}


@pytest.mark.parametrize("mixing", ["mean", "alternate"])
def test_agreement_with_every_teacher_is_logged(mixing: str, configuration: dict[str, Any], tmp_path: Path) -> None:
    """Two teachers of one method with different settings."""
    configuration["model"]["init_args"] |= {"teachers": TWO, "mixing": mixing}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    for label in TWO:
        values = [event.value for event in events.Scalars(f"train/agreement_{label}")]
        assert len(values) == 6
        assert all(-1 <= value <= 1 for value in values)
        assert len(events.Scalars(f"validation/spearman_{label}")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"explainer": "front"}, "`explainer` must be one of"),
        ({"keep_states": True}, "`keep_states` is for `explainer: side`"),
        ({"explainer": "side", "keep_states": True, "kept": 1.0}, "`keep_states` is for `explainer: side`"),
        ({"teachers": {"no/such/folder": {}}}, "'no/such/folder' is neither a folder nor a hub id"),
        ({"teachers": None}, "there are no `teachers`"),
        ({"teachers": {"no_method": {}}}, "`method` must be one of"),
        ({"teachers": {"fast": {"method": "sig", "steps": 3}}}, "`settings` of method 'sig'"),
        ({"mixing": "both"}, "`mixing` must be"),
        ({"teacher_weights": {"attn_lrp": 1.0}}, "`teacher_weights` must have one weight for each of"),
        ({"teacher_weights": {"sig": 0.0}}, "`teacher_weights` must be positive"),
        ({"matching": [[0.5, 1], [0, 1]]}, "`matching` must have progress rising"),
        ({"sparse": -1.0}, "`sparse` must be finite and not negative"),
        ({"draws": 1}, "`draws` must be at least 2, since draws are compared with each other, got 1"),
        ({"operator": "drop"}, "`operator` must be one of delete, replace, blank, hide, got 'drop'"),
        ({"temperature": 0.0}, "`temperature` must be positive, got 0.0"),
        ({"other_class": 1.5}, "`other_class` is a share of the texts"),
        ({"other_class": float("nan")}, "`other_class` is a share of the texts"),
        ({"warmup": 1.5}, "`warmup` is a share"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str, classifier: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskTraining(**({"explained": classifier, "teachers": {"sig": {}}} | arguments))


SIDE = {"explainer": "side", "explainer_settings": SETTINGS["side"], "other_class": 0.5}


def test_kept_states_train_as_recomputed_states_do(configuration: dict[str, Any], tmp_path: Path) -> None:
    """Half precision is the only difference; and no pass of the explained model is left in a training step."""
    weights = []
    for keep in (False, True):
        configuration["model"]["init_args"] |= SIDE | {"keep_states": keep}
        main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
        weights.append(torch.load(checkpoint(tmp_path), weights_only=True)["state_dict"])
        checkpoint(tmp_path).unlink()
    for name, tensor in weights[0].items():
        assert torch.allclose(weights[1][name], tensor, atol=2e-2), name


def test_a_step_on_kept_states_runs_no_pass(configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["model"]["init_args"] |= SIDE | {"keep_states": True}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    module, _ = load_training(checkpoint(tmp_path))
    assert isinstance(module, MaskTraining)
    texts = module.explained.encode(["the film was great fun", "bad"])
    batch, target = module.explained.collate(texts), Target.of([1, 2])
    expected = module(batch, target)
    states = pad_sequence(kept_states(module.explained, texts), batch_first=True)
    module.explained.model.register_forward_pre_hook(lambda *_: pytest.fail("a pass of the explained model"))
    assert torch.allclose(module(batch, target, states), expected, atol=1e-2)


def test_an_exported_explainer_teaches(configuration: dict[str, Any], tmp_path: Path) -> None:
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "teacher")])
    checkpoint(tmp_path).unlink()
    teacher = {"lora": {"method": str(tmp_path / "teacher")}}
    configuration["model"]["init_args"] |= SIDE | {"teachers": teacher, "keep_states": True, "learning_rate": 3e-3}
    configuration["trainer"] |= {"max_epochs": 15}
    configuration["trainer"]["logger"]["init_args"]["name"] = "student"
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    events = EventAccumulator(str(tmp_path / "student")).Reload()
    losses = [event.value for event in events.Scalars("train/matching")]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def test_a_schedule_that_leaves_nothing_to_learn_from_is_refused(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration["model"]["init_args"]["matching"] = [[0, 1], [0.5, 1], [0.5, 0]]
    with pytest.raises(SystemExit):
        main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    assert "Every loss weight is 0 at progress 0.50" in capsys.readouterr().err


def test_training_starts_from_an_exported_explainer(configuration: dict[str, Any], tmp_path: Path) -> None:
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "exported")])
    module, _ = load_training(checkpoint(tmp_path))
    arguments = {key: value for key, value in module.hparams.items() if not key.startswith("_")}
    again = MaskTraining(**arguments | {"pretrained": str(tmp_path / "exported")})
    for name, tensor in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize(("explainer", "dtype"), [("side", "bfloat16"), ("lora", "bfloat16"), ("separate", "float16")])
def test_an_explainer_of_a_model_in_half_precision_is_trained_in_float32(
    explainer: str, dtype: str, tmp_path: Path
) -> None:
    model, settings = saved(explained("llama"), tmp_path / "model"), SETTINGS[explainer]
    module = MaskTraining(
        model, explainer=explainer, explainer_settings=settings, teachers={"random": {}}, kept=1.0, dtype=dtype
    )
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    assert {weight.dtype for weight in before.values()} == {torch.float32}
    batch, target = module.explained.collate(module.explained.encode(["the film was great fun"])), Target.of([1])
    readout = module.explained(batch)
    optimizer = torch.optim.AdamW([weight for weight in module.parameters() if weight.requires_grad], lr=1e-6)
    for _ in range(2):  # the first step of LoRA leaves A as it is
        mask, baseline = module(batch, target).sigmoid(), module.explained.baseline_embedding()
        prediction_kept(
            module.explained(batch, edit=blend(batch, mask, baseline)), soft_target(readout, target), target
        ).backward()
        optimizer.step()
    moved = [name for name, weight in module.state_dict().items() if not torch.equal(weight, before[name])]
    assert len(moved) > len(before) / 2  # steps that half precision would round away
    module.attributor.save_pretrained(tmp_path / "export")
    loaded = Attributor.from_pretrained(tmp_path / "export")
    assert loaded.explained.model.dtype == DTYPES[dtype]
    assert torch.equal(loaded.explained(batch).logits, readout.logits)
    one, other = (attributor("the film was great fun").scores for attributor in (loaded, module.attributor))
    assert one == pytest.approx(other, abs=0.05)


def test_an_operator_is_that_of_the_rankings_the_validation_and_the_test(
    configuration: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = configuration["model"]["init_args"]
    arguments |= RECIPES["replaced tokens alone"]
    comparison = {"methods": {"random": {}}, "output": str(tmp_path / "comparison")}
    callback = {"class_path": "lightning_modules.callbacks.MethodComparison", "init_args": comparison}
    configuration["trainer"]["callbacks"] = [callback]
    seen = set()

    def spy(*given: Any, operator: Operator, **others: Any) -> Tensor:
        seen.add(operator)
        return drawn_set_values(*given, operator=operator, **others)

    monkeypatch.setattr("lightning_modules.mask.drawn_set_values", spy)
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    assert seen == {"replace"}
    module, _ = load_training(checkpoint(tmp_path))
    assert isinstance(module, MaskTraining)
    assert module.faithfulness.operator == "replace"
    main(["test", "--config", config, "--ckpt_path", str(checkpoint(tmp_path))])
    records = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert {operator for record in records for operator in record["operators"].values()} == {"replace"}


def test_an_unknown_precision_is_refused(classifier: str) -> None:
    with pytest.raises(ValueError, match="`dtype` must be one of float32, bfloat16, float16, got 'int8'"):
        MaskTraining(classifier, teachers={"sig": {}}, dtype="int8")


@pytest.mark.parametrize("explainer", ["side", "lora", "encoder"])
def test_an_explainer_of_a_prompted_language_model_is_trained_exported_and_loaded(
    explainer: str,
    classifier: str,
    configuration: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompt = PROMPT | {"template": "film: {text}\nit was:"}  # which would be a mapping, read as YAML
    arguments = configuration["model"]["init_args"]
    arguments |= {"explained": saved(explained("llama", prompted=True), tmp_path / "model"), "prompt": prompt}
    arguments |= {"explainer": explainer, "explainer_settings": {"encoder": classifier, "pooling": "max"}}
    if explainer != "encoder":
        arguments["explainer_settings"] = SETTINGS[explainer]
    if explainer == "encoder":  # AML's losses, which mask what the explained model reads by what the encoder says
        arguments |= {"kept": 1.0, "destroyed": 1.0, "sparse": 0.1, "other_class": 0.5}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "export")])
    trained, _ = load_training(checkpoint(tmp_path))
    assert isinstance(trained, MaskTraining)
    loaded = Attributor.from_pretrained(tmp_path / "export")
    assert loaded.explained.task == trained.explained.task
    assert loaded.explained.task.settings["prompt"]["template"] == prompt["template"]
    assert loaded("the film was great fun").scores == trained.attributor("the film was great fun").scores
    with pytest.raises(SystemExit):
        main(["export", "--ckpt", str(checkpoint(tmp_path)), "--onnx", str(tmp_path / "model.onnx")])
    assert "has a prompt around the text" in capsys.readouterr().err
