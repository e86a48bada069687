"""The device of the commands."""

import pytest
import torch

from explainer.commands.device import device


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_cuda_comes_first_where_there_is_one(available: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert device().type == kind
