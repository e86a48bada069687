"""`explainer demo`: a page on this machine in which a text or a conversation is typed and explained."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from explainer.attributor import Attributor, ResponseAttributor
from explainer.attributor.base import AbstractAttributor
from explainer.commands.loading import load_attributor
from explainer.commands.response import refuse_options
from explainer.commands.task import task_of_options
from explainer.demo import AbstractDemo, DemoServer, Desk, Limits, ResponseDemo, TextDemo
from explainer.explained import AbstractTask, Response
from explainer.explained.pretrained import dtype_named
from explainer.methods import METHODS
from explainer.methods.loading import parse_methods

DemoTask = Literal["prompted", "zero-shot-classification", "response", "question-answering", "token-classification"]
"""The tasks that have a page."""


def demo(
    method: str,
    model: str | None = None,
    task: DemoTask | None = None,
    prompt: Path | None = None,
    labels: str | None = None,
    hypothesis_template: str | None = None,
    multi_label: bool = False,
    methods: str | None = None,
    method_args: dict[str, Any] | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    hosts: str | None = None,
    max_characters: int = 10_000,
    max_passes: int = 2000,
    max_new_tokens: int = 128,
    batch_tokens: int = 4096,
    dtype: str | None = None,
) -> None:
    """Serve one page in which a text or a conversation is typed: prediction, scores, trust, another label or method.

    Args:
        method: a method's name, or the folder or hub id of an exported attributor.
        model: the explained model: hub id, model folder or PEFT adapter folder. An attributor names its own.
        task: prompted, for a language model that is asked by `prompt`; zero-shot-classification, for a model of natural
            language inference (NLI) that is asked for `labels`; response, for one whose answers are explained;
            question-answering; token-classification. By default it is that of the attributor or of the architecture.
        prompt: YAML with template or messages, labels, and optionally shots and calibration.
        labels: of zero-shot classification, with commas between.
        hypothesis_template: of zero-shot classification: "This example is {}." by default.
        multi_label: of zero-shot classification: several labels may hold at once.
        methods: offered beside `method`, names with commas between; a method's name, or LABEL=FOLDER of an exported
            attributor of the same model. All methods by default.
        method_args: settings of `method`, as JSON.
        host: 127.0.0.1 for this machine alone, 0.0.0.0 for all that reach it.
        port: of the page; 0 for any free one.
        hosts: further names by which browsers may ask for the page, with commas between, such as that of a proxy.
        max_characters: of the texts of a form.
        max_passes: of the model for one explanation.
        max_new_tokens: of responses: the longest one that is generated.
        batch_tokens: token budget of a forward pass.
        dtype: of the explained model's weights: float32, bfloat16 or float16; float32 by default, of an exported
            attributor that of its training. Gradients want float32.
    """
    _check(port, max_characters=max_characters, max_passes=max_passes, max_new_tokens=max_new_tokens)
    precision = None if dtype is None else dtype_named(dtype, "--dtype")
    asked = _task(task, prompt, labels, hypothesis_template, multi_label)
    names = tuple(name.strip() for name in (hosts or "").split(",") if name.strip())
    with DemoServer(host, port, names, max_bytes=12 * max_characters + 100_000) as server:
        attributor = load_attributor(method, model, batch_tokens, method_args or {}, asked, precision)
        others = _others(attributor, methods)
        server.listen(Desk(demo_of(attributor, others, Limits(max_characters, max_passes, max_new_tokens))))
        if not _is_loopback(host):
            warnings.warn(
                f"`--host {host}` is reached from other machines, and the page has no password: whoever reaches it can "
                "use the model. 127.0.0.1 is this machine alone.",
                stacklevel=2,
            )
        print(f"The demo is at {server.address} (Ctrl+C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def demo_of(attributor: AbstractAttributor, others: Mapping[str, Any], limits: Limits) -> AbstractDemo[Any]:
    """The demo of an attributor of texts or of responses.

    Args:
        others: attributors of the same model, by their labels.
    """
    if isinstance(attributor, ResponseAttributor):
        return ResponseDemo(attributor, others, limits)
    assert isinstance(attributor, Attributor)
    return TextDemo(attributor, others, limits)


def _check(port: int, **limits: int) -> None:
    if not 0 <= port <= 65535:
        raise ValueError(f"`--port` must be from 0 to 65535, got {port}.")
    for name, limit in limits.items():
        if limit < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {limit}.")


def _task(
    task: DemoTask | None,
    prompt: Path | None,
    labels: str | None,
    hypothesis_template: str | None,
    multi_label: bool,
) -> AbstractTask | None:
    if task != "response":
        return task_of_options(task, prompt, labels, hypothesis_template, multi_label)
    given = {"prompt": prompt, "labels": labels, "hypothesis_template": hypothesis_template, "multi_label": multi_label}
    refuse_options(given, task)
    return Response()


def _others(attributor: AbstractAttributor, methods: str | None) -> dict[str, Any]:
    """The attributors beside the first one, by their labels.

    Raises:
        ValueError: when a name is none of a method or an attributor, or is there twice.
    """
    own = attributor.method.label
    named = [name for name in METHODS if name != attributor.method.name] if methods is None else methods.split(",")
    parsed = parse_methods(named, {})
    if own in parsed:
        raise ValueError(
            f"`--methods` names {own!r}, the label of `--method` itself: leave it out, or give LABEL={own}."
        )
    return {label: Attributor.of(attributor.explained, **settings) for label, settings in parsed.items()}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
