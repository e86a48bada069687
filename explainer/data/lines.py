"""Text files as numbered lines: UTF-8 with or without a byte order mark, plain or compressed by gzip."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"


class InputError(ValueError):
    """A line of an input file that cannot be used; the message names file and line.

    Args:
        number: of the line, from 1.
    """

    def __init__(self, source: Path, number: int, reason: object) -> None:
        super().__init__(f"{source}, line {number}: {reason}")


def read_lines(source: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers and their line ends.

    Each line is decoded by itself, so that those before a broken one are there. A compressed file is known by its first
    bytes, whatever its name.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is a pipe or another thing that cannot be read twice.
        InputError: when a line is not in UTF-8, or the compressed file breaks off.
    """
    number = 0
    with open_bytes(source) as file:
        try:
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix(_MARK if number == 1 else b"").decode()
        except UnicodeDecodeError as error:
            raise InputError(
                source,
                number,
                f"not in UTF-8 (byte {error.object[error.start]:#04x} at {error.start}): convert the file.",
            ) from error
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(source, number + 1, f"the compressed file is broken here ({error}).") from error


def count_lines(source: Path) -> int:
    """The number of lines, broken or not."""
    with open_bytes(source) as file:
        try:
            return sum(1 for _ in file)
        except (gzip.BadGzipFile, zlib.error, EOFError):
            return 0  # `read_lines` says where


@contextmanager
def open_bytes(source: Path) -> Iterator[BinaryIO]:
    """A file's bytes, decompressed where it is compressed.

    Raises:
        FileNotFoundError: when there is no such file.
        IsADirectoryError: when it is a folder.
        ValueError: when it is a pipe, a socket or a device: reading could wait forever.
    """
    if source.exists() and not source.is_file() and not source.is_dir():
        raise ValueError(f"{source} is a pipe or a device, not a file: write its content to a file first.")
    with source.open("rb") as file:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        if not compressed:
            yield file
            return
        with gzip.open(file) as decompressed:
            yield cast(BinaryIO, decompressed)
