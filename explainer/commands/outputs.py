"""The files that commands write: apart from those they read, whole, or up to the first line that cannot be used."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

from explainer.storage.atomic import replacing


def check_apart(inputs: Mapping[str, Path | None], outputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over a file that is read.

    Args:
        inputs: {option: file}; None for options that are not given.
        outputs: the same, of the files to write.

    Raises:
        ValueError: when one of each is the same file, by whatever name.
    """
    for reading, source in inputs.items():
        for writing, output in outputs.items():
            if source is not None and output is not None and _same(source, output):
                raise ValueError(f"`--{writing} {output}` is the file of `--{reading}`: give another name.")


def _same(source: Path, output: Path) -> bool:
    return source.is_file() and output.exists() and output.samefile(source)


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that writes one record as a line of JSON; the file takes the place of `path` at the end.

    After an error the lines before it take that place, if there are any, since they are right; but not after an OSError
    such as that of a full disk, which leaves `path` as it was.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe or a terminal has no place to take
        try:
            with path.open("w", encoding="utf-8") as file:
                yield lambda record: _write(file, record)
        except OSError as error:
            raise OSError(error.errno, error.strerror, error.filename or str(path)) from error
        return
    interruption: BaseException | None = None
    with replacing(path) as name, open(name, "w", encoding="utf-8") as file:
        try:
            yield lambda record: _write(file, record)
        except OSError:
            raise
        except BaseException as error:
            if file.tell() == 0:
                raise
            interruption = error
    if interruption is not None:
        raise interruption


def _write(file: TextIO, record: Mapping[str, Any]) -> None:
    file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


Line = TypeVar("Line")


def usable_chunks(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """The lines, at most `size` at a time; the error of one that cannot be used comes after those before it.

    Raises:
        ValueError: what reading a line raised.
    """
    unusable: ValueError | None = None
    while unusable is None:
        chunk: list[Line] = []
        try:
            for line in islice(lines, size):
                chunk.append(line)
        except ValueError as error:
            unusable = error
        if chunk:
            yield chunk
        elif unusable is None:
            return
    raise unusable
