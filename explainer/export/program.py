"""Programs of `torch.export`: an attributor traced for a batch and a length of any size, and checked."""

from collections.abc import Sequence

import torch
from torch.export import Dim, ExportedProgram

from explainer.explained import PREDICTED, ExplainedModel
from explainer.export.agreement import check
from explainer.export.exportable import ExportableAttributor
from explainer.export.sentences import SENTENCES
from explainer.methods.trained.amortized import Amortized


def exported_program(explained: ExplainedModel, method: Amortized, texts: Sequence[str] = SENTENCES) -> ExportedProgram:
    """The attributor traced by `torch.export`.

    Args:
        texts: what the program is checked on.

    Raises:
        ValueError: when the model is not in float32 or cannot be traced, its task has no closed list of labels, there
            is no text to check the program on, or it computes something else.
    """
    if explained.model.dtype != torch.float32:
        raise ValueError(
            f"The explained model is in {explained.model.dtype}, a program is made in torch.float32: load the "
            "attributor again, without `dtype`."
        )
    if len(texts) == 0:
        raise ValueError("`texts` is empty: a program is checked on some.")
    attributor = ExportableAttributor(explained, method).eval()
    # Two texts, each with a target of another kind: a batch of one would be traced as a constant.
    first = PREDICTED if attributor.has_prediction else 0
    inputs = attributor.inputs(explained.encode([texts[0], texts[-1]]), torch.tensor([first, 0]))
    batch, seq = Dim("batch"), Dim("seq", max=explained.text.max_tokens)
    shapes = {name: {0: batch} if value.ndim == 1 else {0: batch, 1: seq} for name, value in inputs.items()}
    try:
        with torch.no_grad():
            program = torch.export.export(attributor, (), kwargs=inputs, dynamic_shapes=shapes)
    except Exception as error:  # each layer of tracing has its own
        raise ValueError(
            f"{type(explained.model).__name__} with a {method.explainer.kind} explainer cannot be traced by "
            f"torch.export ({reason(error)}): it stays in PyTorch."
        ) from error
    module = program.module()
    check(lambda tensors: module(**tensors), attributor, texts, "The exported program")
    return program


def reason(error: BaseException) -> str:
    """The first line of the error that another one goes back to."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
