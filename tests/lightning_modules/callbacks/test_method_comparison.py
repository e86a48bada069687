"""The comparison callback belongs to mask explainers."""

from typing import cast

import pytest
from pytorch_lightning import LightningModule, Trainer

from lightning_modules.callbacks import MethodComparison


def test_another_module_is_refused() -> None:
    with pytest.raises(ValueError, match="compares a trained mask explainer"):
        MethodComparison().on_test_start(cast(Trainer, None), LightningModule())


def test_an_unknown_method_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="`method` must be one of"):
        MethodComparison(methods={"no_method": {}})
