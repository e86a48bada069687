"""The processes of a run on several devices: their number, and the one that speaks for all."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch.distributed as dist

Part = TypeVar("Part")


def process() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are; (0, 1) in a run on one device."""
    return (dist.get_rank(), dist.get_world_size()) if _is_joined() else (0, 1)


def shown(description: str) -> str | None:
    """The description of work whose progress the first process shows; None in the others."""
    return description if process()[0] == 0 else None


def own_first(parts: Sequence[Part]) -> list[Part]:
    """The parts of work whose results all processes keep in one cache, in the order of this process.

    Each process begins with a share of its own, and finds the shares of the others done when it comes to them. No
    process waits for another one.
    """
    rank, count = process()
    start = rank * len(parts) // count
    return [*parts[start:], *parts[:start]]


def gathered(own: Any) -> list[Any]:
    """What each process has, in the order of their numbers. All processes must call this."""
    if not _is_joined():
        return [own]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    return everyone


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()
