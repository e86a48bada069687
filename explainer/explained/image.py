"""The frozen image classifier being explained. Its patches play the part of tokens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from explainer.explained import conventions
from explainer.explained.attention import Attend, edit_attention
from explainer.explained.base import AbstractExplained
from explainer.explained.batch import EncodedText, TokenBatch, Tokens
from explainer.explained.model import ExplainedModel
from explainer.explained.passes import EmbeddingEdit, edit_output, layer_states
from explainer.explained.patches import GREY, GREY_NAME, PatchGrid, PatchNames, Pixels, names_of, read_image
from explainer.explained.pretrained import DeviceMap, check_complete, config_of, model_of, reading
from explainer.explained.readout import Readout
from explainer.explained.tasks import AbstractTask, ImageClassification


class ExplainedImageModel(ExplainedModel):
    """A Hugging Face vision transformer with a classification head (ViT, DeiT, DINOv2 and their like).

    It is an `ExplainedModel` whose texts are images: `encode` takes images, a token is a patch, and the baseline token
    is a grey patch. Methods, metrics and side explainers take it as they take a model of texts. Of the operators that
    take tokens away, `replace` makes patches grey, `blank` makes their embeddings zero, `hide` lets no token attend to
    them, and `delete` takes them out of the sequence while all other patches stay where they are.

    Args:
        model: a `...ForImageClassification`; its parameters stop requiring gradients.
        processor: turns images into pixel values; None when pixel values are given.
        name: a hub id or model folder.
        batch_tokens: the budget of one forward pass, in patches.

    Attributes:
        grid: how the model cuts an image.

    Raises:
        ValueError: when the model does not keep one token per patch (Swin merges them), or answers otherwise through
            this class than by itself.
    """

    def __init__(
        self, model: PreTrainedModel, processor: Any = None, *, name: str | None = None, batch_tokens: int = 4096
    ) -> None:
        AbstractExplained.__init__(self, model, name)
        if batch_tokens < 1:
            raise ValueError(f"`batch_tokens` must be a positive number of patches, got {batch_tokens}.")
        self.batch_tokens = batch_tokens
        self.processor = processor
        self.baseline_token_id = GREY
        self.pads, self.explicit_positions, self.sequence_first, self.shares_prefix = True, False, False, False
        self._attention_types = conventions.AttentionTypes(model)
        self.grid = self._find_grid()
        self.text: Any = PatchNames(self.grid, processor)
        self._ask_model()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        task: AbstractTask | None = None,
        baseline_token: str | None = None,
        batch_tokens: int = 4096,
        device_map: DeviceMap = None,
    ) -> "ExplainedImageModel":
        """Load an image classifier and its processor from a hub id or a model folder.

        Args:
            task: None; the model's architecture tells it.
            baseline_token: None or `[GREY]`, which it always is.

        Raises:
            ValueError: when there is no such model, a part of it is missing, or its files are broken.
        """
        if task is not None or baseline_token not in (None, GREY_NAME):
            raise ValueError("`task` and `baseline_token` are of models of texts: leave them out for an image model.")
        source = str(name)
        model, missing = model_of(AutoModelForImageClassification, source, config_of(source), dtype, device_map)
        check_complete(source, missing)
        with reading(source):
            processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        return cls(model, processor, name=source, batch_tokens=batch_tokens)

    @property
    def tokenizer(self) -> Any:
        """The names of patches (`PatchNames`)."""
        return self.text

    @property
    def embedding(self) -> Any:
        """The module whose output is the patch embeddings (batch, patches, hidden)."""
        return self.model.base_model.get_input_embeddings()

    @property
    def reads_both_ways(self) -> bool:
        """Raises a ValueError: explainers with a backbone read words."""
        raise ValueError("Image models are explained by the `side` explainer; the others read the words of a text.")

    # Images to batches

    def encode(self, texts: Sequence[Any], text_pairs: Sequence[str | None] | None = None) -> list[EncodedText]:
        """Images (paths, PIL or arrays) as the model reads them.

        Raises:
            ValueError: when the model came without a processor, or a file does not exist or is no image.
        """
        if self.processor is None:
            raise ValueError("`processor` is needed to read images; without one, use `encode_pixels`.")
        if any(pair is not None for pair in text_pairs or ()):
            raise ValueError("`text_pairs` are of models of texts; an image has none.")
        if not len(texts):
            return []
        opened = [read_image(image, f"`images[{i}]`") for i, image in enumerate(texts)]
        pixels = self.processor(opened, return_tensors="pt")["pixel_values"]
        return self.encode_pixels(pixels, names_of(texts))

    def encode_pixels(self, pixel_values: Pixels, names: Sequence[str] | None = None) -> list[EncodedText]:
        """Pixel values, normalised as the model wants them, as the model reads them.

        Args:
            names: of the images, for errors and records.

        Raises:
            ValueError: when they are not of the size that the model reads.
        """
        grid, size = self.grid, tuple(pixel_values.shape[1:])
        if size != (wanted := grid.shape):
            raise ValueError(f"`pixel_values` must be (images, {', '.join(map(str, wanted))}), got {size} per image.")
        values = pixel_values.detach().cpu()
        ids = torch.arange(len(grid))
        scorable = ids >= grid.n_special
        numbers = tuple((ids - grid.n_special).clamp(min=-1).tolist())
        return [
            EncodedText(
                text=names[i] if names is not None else f"image {i}",
                text_pair=None,
                tokens=Tokens(ids, patches=patches.clone()),
                scorable=scorable,
                offsets=((0, 0),) * len(grid),
                words=numbers,
                segments=(0,) * len(grid),
            )
            for i, patches in enumerate(grid.tokens(values if values.dtype.itemsize > 2 else values.float()))
        ]

    def encode_probes(self, texts: Sequence[str]) -> list[EncodedText]:
        """One image of noise per text, the same ones each time: what an export is compared on."""
        shape = (len(texts), *self.grid.shape)
        return self.encode_pixels(torch.randn(shape, generator=torch.Generator().manual_seed(0)).clamp(-2, 2))

    def picture(self, text: EncodedText) -> UInt8[np.ndarray, "height width 3"]:
        """An encoded image as the model reads it: resized and cropped, in the colours that it had."""
        assert text.tokens.patches is not None
        pixels = self.grid.pixels(text.tokens.patches[None])[0].float()
        if self.processor is not None and getattr(self.processor, "do_normalize", True):
            mean, deviation = self.processor.image_mean, self.processor.image_std
        else:
            mean, deviation = [0.0] * len(pixels), [1.0] * len(pixels)
        shown = pixels * torch.tensor(deviation).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
        values = (shown * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        return (values.expand(-1, -1, 3) if len(pixels) == 1 else values[..., :3]).contiguous().numpy()

    # Passes

    def forward(self, batch: TokenBatch, edit: EmbeddingEdit | None = None, target: Any = None) -> Readout:
        """What the task reads; `edit` maps the patch embeddings (batch, seq, hidden) to those used instead.

        Tokens that are no patch have the embedding 0 there, and their edited one is not used.
        """
        assert batch.patches is not None
        places, real = batch.input_ids, batch.attention_mask.bool()
        whole = not torch.compiler.is_exporting() and places.shape[1] == len(self.grid) and bool(real.all())
        taken = None if whole else self._deleted(places, real)
        if batch.hidden is not None:
            hidden = batch.hidden if whole else self._spread(places, real, batch.hidden)
            taken = hidden if taken is None else taken | hidden
        patches = batch.patches if whole else self._spread(places, real, batch.patches)
        pixels = self.grid.pixels(patches).to(self.device, self.model.dtype)

        def edited(embeddings: Tensor) -> Tensor:
            assert edit is not None
            n_special = self.grid.n_special
            own = torch.nn.functional.pad(embeddings, (0, 0, n_special, 0))
            if not whole:
                columns = places[..., None].expand(*places.shape, own.shape[-1])
                return self._spread(places, real, edit(own.gather(1, columns)))[:, n_special:]
            return edit(own)[:, n_special:]

        with edit_output(self.embedding, None if edit is None else edited), self._hiding(taken):
            return self.task.read(self.model(pixel_values=pixels), batch)

    def baseline_embedding(self) -> Tensor:
        """The embedding (hidden,) of a grey patch."""
        with torch.no_grad():
            return self.embedding(torch.zeros(1, *self.grid.shape, device=self.device, dtype=self.model.dtype))[0, 0]

    def _spread(self, places: Tensor, real: Tensor, values: Tensor) -> Tensor:
        """Values (batch, seq, ...) of some tokens at the places of all tokens; 0 at the others."""
        empty = values.new_zeros(len(values), len(self.grid) + 1, *values.shape[2:])
        # Padding has a place of its own, behind all others, which is dropped.
        index = places.masked_fill(~real, len(self.grid)).view(*places.shape, *[1] * (values.ndim - 2))
        return empty.scatter(1, index.expand_as(values), values)[:, :-1]

    def _deleted(self, places: Tensor, real: Tensor) -> Bool[Tensor, "batch whole"]:
        """The places of the whole sequence at which an image has no token any more.

        Raises:
            ValueError: when the model's head reads patches, so that a deleted one would still be read.
        """
        missing = ~self._spread(places, real, real)
        if not self.task.reads_class_token and bool(missing.any()):  # type: ignore[attr-defined]
            raise ValueError(
                f"The head of {type(self.model).__name__} reads the patches themselves, so none can be deleted: take "
                "the operator `replace`, `blank` or `hide`, and methods that replace, such as `sig` or `occlusion`, in "
                "place of `leave_one_out`."
            )
        return missing

    @contextmanager
    def _hiding(self, taken: Bool[Tensor, "batch whole"] | None) -> Iterator[None]:
        """No token attends to those taken away."""

        def attention(attend: Attend, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **kw):  # type: ignore[no-untyped-def]
            assert taken is not None
            mask = query.new_zeros(len(taken), 1, 1, key.shape[2])
            mask = mask.masked_fill(taken[:, None, None], torch.finfo(query.dtype).min)
            mask = mask.expand(-1, -1, query.shape[2], -1)
            kw.pop("attention_mask", None)
            return attend(module, query, key, value, mask, *rest[1:], **kw)

        with nullcontext() if taken is None else edit_attention(self.model, attention):
            yield

    # What it is

    def _find_grid(self) -> PatchGrid:
        config = self.model.config
        channels = int(getattr(config, "num_channels", 3))
        height, width = _pair(config.image_size)
        if self.processor is not None:
            blank = torch.zeros(channels, height, width, dtype=torch.uint8).permute(1, 2, 0).numpy()
            height, width = self.processor([blank], return_tensors="pt")["pixel_values"].shape[2:]
        of_patch = _pair(config.patch_size)
        rows, columns = height // of_patch[0], width // of_patch[1]
        probe = torch.zeros(1, channels, height, width, dtype=self.model.dtype, device=self.device)
        with torch.no_grad():
            embedded = self.embedding(probe)
            whole = isinstance(embedded, Tensor) and embedded.shape[1] == rows * columns and bool(self._blocks)
            if whole:
                with layer_states(self.layers) as states:
                    self.model(pixel_values=probe)
        sizes = {state.shape[1] for state in states} if whole else set()
        if len(sizes) != 1:
            raise ValueError(
                f"`model` {type(self.model).__name__} does not keep one token per patch from its first layer to its "
                "last (Swin and others merge them), so its patches cannot be scored. ViT, DeiT and DINOv2 do."
            )
        return PatchGrid(sizes.pop() - rows * columns, rows, columns, *of_patch, channels)

    def _ask_model(self) -> None:
        """Compare the model's answer through this class with its own, and find out where its head reads.

        Raises:
            ValueError: when the two answers differ.
        """
        texts = self.encode_probes([""] * 2)
        batch = self.collate(texts)
        assert batch.patches is not None
        with torch.no_grad():
            own = self.model(pixel_values=self.grid.pixels(batch.patches).to(self.model.dtype)).logits
            answer = self(batch).logits[:, 0]
        if not self._close(answer, own.to(answer.dtype)):
            raise ValueError(
                f"`model` {type(self.model).__name__} answers otherwise through this class than by itself, so that no "
                "explanation of it means anything."
            )
        alone = self.collate(texts[:1])
        at = conventions.read_positions(self.layers[-1], lambda: self(alone).logits)
        assert isinstance(self.task, ImageClassification)
        self.task = replace(self.task, reads_class_token=at == [0])


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def load_explained(name: str | Path, **options: Any) -> ExplainedModel:
    """The explained model of a checkpoint: of images where its architecture says so, else of texts.

    Args:
        options: of `ExplainedModel.from_pretrained`.
    """
    of_images = options.get("task") is None and _is_image_model(str(name))
    return (ExplainedImageModel if of_images else ExplainedModel).from_pretrained(name, **options)


def _is_image_model(name: str) -> bool:
    """Whether a hub id or folder holds an image classifier; False also where it cannot be read."""
    try:
        names = config_of(name).architectures or ()
    except ValueError:
        return False
    return any(one.endswith("ForImageClassification") for one in names)
