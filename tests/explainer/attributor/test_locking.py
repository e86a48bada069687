"""Threads share an attributor, or a model, and each gets what it would get alone."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
import torch

from explainer.attributor import Attributor
from explainer.attributor import attributor as module
from explainer.attributor.locking import model_lock
from explainer.explained import AbstractExplained
from explainer.explainers import EXPLAINERS
from explainer.methods import SIG, AttnLRP
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import fresh
from tests.families import TEXTS, explained

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have passed exclude_modules:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def attributors() -> list[Attributor]:
    """Three explainers of one model: adapters inside it, a network of its own, and rules on the backward pass."""
    model = fresh("bert")
    torch.manual_seed(1)
    explainers = [EXPLAINERS[kind](model).eval() for kind in ("separate", "lora")]
    with torch.no_grad():
        for explainer in explainers:
            for parameter in explainer.trained(model).values():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return [*(Attributor(model, Amortized(explainer)) for explainer in explainers), Attributor(model, AttnLRP())]


def test_threads_get_what_single_calls_give() -> None:
    shared = attributors()
    work = [(which, text) for which in range(len(shared)) for text in TEXTS] * 4
    expected = [shared[which](text, targets="all", trust=True) for which, text in work]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda item: shared[item[0]](item[1], targets="all", trust=True), work))
    assert results == expected


def test_refinement_is_invisible_to_other_threads() -> None:
    model = attributors()[1]
    expected = model(TEXTS, target=1)
    with ThreadPoolExecutor(4) as pool:
        refined = [pool.submit(model.refine, text, steps=3, target=1, learning_rate=0.01) for text in TEXTS]
        plain = [pool.submit(model, TEXTS, target=1) for _ in range(8)]
    assert all(future.result() == expected for future in plain)
    assert all(future.result().scores != e.scores for future, e in zip(refined, expected, strict=True))


def test_the_same_call_twice_is_equal_to_the_bit() -> None:
    for attributor in attributors():
        assert attributor(TEXTS, targets="all") == attributor(TEXTS, targets="all")


def test_a_call_takes_the_lock_once_and_a_stream_once_per_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []

    def counting(model: AbstractExplained) -> AbstractContextManager[bool]:
        taken.append(model)
        return model_lock(model)

    monkeypatch.setattr(module, "model_lock", counting)
    attributor = Attributor(explained("bert"), SIG())
    attributor(TEXTS, targets="all", fallback="attn_lrp", min_faithfulness=9)
    assert len(taken) == 1
    list(attributor.stream(TEXTS, chunk_size=2))
    assert len(taken) == 3


def test_one_lock_per_model_taken_again_by_the_same_thread() -> None:
    model, other = explained("bert"), explained("llama")
    assert model_lock(model) is model_lock(model)
    assert model_lock(model) is not model_lock(other)
    assert model_lock(Attributor(model, SIG()).explained) is model_lock(model)
    with model_lock(model), model_lock(model), ThreadPoolExecutor(1) as pool:
        assert pool.submit(model_lock(model).acquire, blocking=False).result() is False
        assert pool.submit(Attributor(other, SIG()), "bad").result().tokens
