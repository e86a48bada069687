"""`explainer attribute --task image-classification`: images to attributions of their patches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from explainer.attributor.images import ImageAttributor, checked
from explainer.attributor.numbering import without_number
from explainer.attributor.options import CallOptions
from explainer.commands.loading import load_attributor
from explainer.commands.outputs import json_lines, usable_chunks
from explainer.data.jsonl import check_text, read_objects
from explainer.data.lines import InputError, count_lines
from explainer.explained import EncodedText, ExplainedImageModel
from explainer.explanation.image import ImageExplanation, write_page
from explainer.rendering.progress import Progress
from explainer.storage.atomic import replacing

CHUNK = 32
"""The number of images that are explained at once."""


@dataclass(frozen=True)
class _Line:
    image: EncodedText
    id: Any
    target: str | int | None


def attribute_images(
    method: str,
    model: str | None,
    source: Path,
    output: Path,
    *,
    target: str | int = "predicted",
    options: CallOptions,
    html: Path | None = None,
    batch_tokens: int,
    dtype: torch.dtype | None = None,
    settings: dict[str, Any],
) -> None:
    """Explain the images of a file. The lines before one that cannot be used are written; then that line is named.

    Args:
        target: "all" gives one line per label. A line's own `target` comes first.
        options: of every line; their target is not read.
        html: a page with the explained images, which opens offline.

    Raises:
        ValueError: when the model or a line cannot be used.
    """
    found = load_attributor(method, model, batch_tokens, settings, dtype=dtype, kind=ExplainedImageModel)
    attributor = ImageAttributor(checked(found.explained), found.method)
    shown: list[ImageExplanation] = []
    lines = _lines(attributor.explained, source, target, options)
    with Progress(attributor.method.name, count_lines(source)) as progress, json_lines(output) as write:
        for chunk in usable_chunks(lines, CHUNK):
            for line, explanation in _explained(attributor, chunk, target, options):
                write({"id": line.id, **explanation.record()})
                shown += [explanation] if html is not None else []
            progress.advance(len(chunk))
    if html is not None:
        with replacing(html) as name:
            write_page(shown, name)


def _lines(explained: ExplainedImageModel, source: Path, target: str | int, options: CallOptions) -> Iterator[_Line]:
    if target != "all":
        explained.task.target(target, 1, options.foil, options.score)
    for number, record in read_objects(source):
        check_text(source, number, record, "image", required=True)
        own = record.get("target")
        if isinstance(own, bool) or not isinstance(own, str | int | None):
            raise InputError(source, number, f"`target` must be a label or an index, got {own!r:.60}.")
        try:
            if own not in (None, "all"):
                explained.task.target(own, 1, options.foil, options.score)
            (image,) = explained.encode([record["image"]])
        except ValueError as error:
            raise InputError(source, number, without_number(error)) from error
        yield _Line(image, record.get("id", number - 1), own)


def _explained(
    attributor: ImageAttributor, lines: Sequence[_Line], target: str | int, options: CallOptions
) -> Iterator[tuple[_Line, ImageExplanation]]:
    """The lines with their explanations, one per target."""
    targets = [target if line.target is None else line.target for line in lines]
    every = [i for i, wanted in enumerate(targets) if wanted == "all"]
    one = [i for i, wanted in enumerate(targets) if wanted != "all"]
    found: dict[int, list[ImageExplanation]] = {}
    for places, wanted in ((every, {"targets": "all"}), (one, {"target": [targets[i] for i in one]})):
        images = [lines[i].image for i in places]
        for i, result in zip(places, attributor.explain(images, replace(options, **wanted)), strict=True):
            found[i] = list(result.values()) if isinstance(result, dict) else [result]
    for i, line in enumerate(lines):
        for explanation in found[i]:
            yield line, explanation
