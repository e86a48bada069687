"""One lock per explained model, so that threads may share an attributor.

Explaining edits the model for the time of a pass: hooks on the embeddings, adapters switched on, another attention. If
a second thread ran the model in between, its pass would be edited too. Every call therefore holds the model's lock.
"""

from contextlib import AbstractContextManager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

from explainer.explained import AbstractExplained

_LOCKS: WeakKeyDictionary[object, AbstractContextManager[bool]] = WeakKeyDictionary()
_GUARD = Lock()


def model_lock(explained: AbstractExplained) -> AbstractContextManager[bool]:
    """The lock of the wrapped model, shared by all attributors of it; a thread that holds it may take it again."""
    with _GUARD:
        return _LOCKS.setdefault(explained.model, RLock())
