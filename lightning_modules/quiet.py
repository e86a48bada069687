"""Messages of other packages that no reader of a run can act on, silenced in one place.

Every entry says why it is of no use here and where upstream it comes from. A message that somebody can act on, such as
the one about a logging interval longer than an epoch, is never among them.
"""

import logging
import os
import re
import sys
import warnings
from typing import NamedTuple

_LIGHTNING = "https://github.com/Lightning-AI/pytorch-lightning"
_SOURCE = f"{_LIGHTNING}/blob/master/src/lightning/pytorch"


class Silenced(NamedTuple):
    """A message that is not shown.

    Attributes:
        message: a regular expression that the message begins with.
        reason: why no reader can act on it.
        link: where it is discussed or comes from upstream.
        category: of a warning; None for a line of Lightning's log.
    """

    message: str
    reason: str
    link: str
    category: type[Warning] | None = UserWarning


SILENCED = (
    Silenced(
        r".*isinstance\(treespec, LeafSpec\)",
        "Lightning's own use of a deprecated class of torch",
        f"{_LIGHTNING}/issues/21326",
        FutureWarning,
    ),
    Silenced(
        r".*module\(s\) in eval mode at the start of training",
        "the explained model is frozen and in eval mode on purpose",
        f"{_LIGHTNING}/pull/21146",
    ),
    Silenced(
        r"The '.*' does not have many workers",
        "a batch is a look-up in memory, which worker processes would only slow down",
        f"{_SOURCE}/trainer/connectors/data_connector.py",
    ),
    Silenced(
        r"The dirpath has changed from",
        "a test logs to a folder of its own and never continues the checkpoints of the training",
        f"{_SOURCE}/callbacks/model_checkpoint.py",
    ),
    Silenced(
        r"💡 Tip: For seamless cloud",
        "advertises two packages of the vendor, litlogger and litmodels",
        f"{_LIGHTNING}/pull/21430",
        category=None,
    ),
    Silenced(
        r"Loading `train_dataloader` to estimate",
        "names a step that takes no time here",
        f"{_SOURCE}/trainer/trainer.py",
        category=None,
    ),
    Silenced(
        r"(GPU|TPU|HPU) available: ",
        "says what was chosen; a GPU that is there and not used has a warning of its own",
        f"{_SOURCE}/trainer/setup.py",
        category=None,
    ),
)


def silence() -> None:
    """Show none of these messages from now on in this process.

    A process that Lightning starts with the same command line comes through `cli.main` and here; one that it forks or
    spawns is silenced where its work begins (`attribution`).
    """
    for entry in SILENCED:
        if entry.category is not None:
            warnings.filterwarnings("ignore", entry.message, entry.category)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_shown)  # a second time changes nothing
    # Bars of `datasets` for reading a file once; by its variable, since importing it takes a second.
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()


def _is_shown(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(entry.category is None and re.match(entry.message, message) for entry in SILENCED)
