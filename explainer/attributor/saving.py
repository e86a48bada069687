"""The forms in which an attributor leaves the process: a folder, a hub repository, a program, an ONNX file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from explainer.explained import ExplainedModel
from explainer.explainers.folder import save_folder
from explainer.export.hub import push
from explainer.export.onnx import write_onnx
from explainer.export.program import exported_program
from explainer.export.sentences import SENTENCES
from explainer.methods.base import AbstractMethod
from explainer.methods.trained.amortized import Amortized


class SavingMixin:
    """The saving methods of an attributor; they need a method that is a trained explainer."""

    explained: ExplainedModel
    method: AbstractMethod

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None, merge: bool = False) -> None:
        """Write config.json and model.safetensors: the trained weights, and a reference to the explained model.

        Args:
            dtype: of the stored weights; that of training by default.
            merge: put the explained model and its tokenizer into the folder too, so that it loads anywhere.

        Raises:
            ValueError: when the method is no trained explainer, or the explained model has no name to refer to.
        """
        save_folder(self.explained, self._amortized.explainer, Path(folder), dtype, merge)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        merge: bool = False,
        dtype: torch.dtype | None = None,
        card: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload attributor",
    ) -> str:
        """Upload the files of `save_pretrained` and a model card to the hub; returns the address of the commit.

        Args:
            repo_id: `owner/name`; the repository is made if it does not exist.
            merge: upload the explained model and its tokenizer too. Needed where it is a folder of this machine.
            dtype: of the stored weights.
            card: text of README.md; a short one with the hub's metadata by default.
            private: whether a repository that is made is private.
            token: of the hub; that of `hf auth login` by default.
            revision: branch to commit to.

        Raises:
            ValueError: when others could not load it, because its explained model is a folder of this machine.
        """
        return push(
            self.explained,
            self._amortized.explainer,
            repo_id,
            merge=merge,
            dtype=dtype,
            card=card,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
        )

    def to_exported_program(self, path: str | Path | None = None, texts: Sequence[str] = SENTENCES) -> ExportedProgram:
        """A `torch.export` program for batches of any size and length, checked; written to `path` (.pt2) if given.

        Its inputs, by name, and its outputs are those of the ONNX file (`to_onnx`). It runs on this attributor's
        device.

        Raises:
            ValueError: when the attributor cannot be traced.
        """
        program = exported_program(self.explained, self._amortized, texts)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            torch.export.save(program, path)
        return program

    def to_onnx(self, path: str | Path, *, int8: bool = False, texts: Sequence[str] = SENTENCES) -> dict[str, Any]:
        """Write an ONNX file that gives logits and scores, and next to it its tokenizer and a JSON file of facts.

        Inputs: int64 `input_ids` and `attention_mask` (batch, seq), padded on the right, `target` (batch,) with a class
        index or -1 for the predicted class, and `token_type_ids` where the model reads them. Outputs: float32 `logits`
        (batch, labels) and `scores` (batch, seq), 0 at special tokens and padding. ONNX Runtime's results are compared
        with PyTorch's at several shapes, to 1e-4, before the file is put in its place.

        Args:
            int8: quantise the weights to int8; the facts then hold its agreement with PyTorch.
            texts: the file is checked on them; twelve plain English sentences by default.

        Returns:
            The contents of the JSON file: labels, max_tokens, special_token_ids, largest_difference, int8.

        Raises:
            ImportError: when onnx, onnxscript or onnxruntime is missing.
            ValueError: when ONNX cannot express the attributor, or gives other results.
        """
        return write_onnx(self.explained, self._amortized, Path(path), texts, int8)

    @property
    def _amortized(self) -> Amortized:
        if not isinstance(self.method, Amortized):
            raise ValueError(f"Method {self.method.name!r} has no weights to save; it is named, not exported.")
        return self.method
