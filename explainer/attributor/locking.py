"""One lock for each explained model, so that threads may share an attributor.

Explaining edits the model for the time of a pass: hooks on the embeddings, adapters switched on, another attention. A
second thread's pass in between would be edited too. Whatever runs the model while holding its lock is alone with it.
"""

from contextlib import AbstractContextManager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

from explainer.explained import AbstractExplained

_LOCKS: WeakKeyDictionary[object, AbstractContextManager[bool]] = WeakKeyDictionary()
_GUARD = Lock()


def alone_with(explained: AbstractExplained) -> AbstractContextManager[bool]:
    """The lock of the wrapped model: the same for all attributors of it; one thread may take it again inside."""
    with _GUARD:
        return _LOCKS.setdefault(explained.model, RLock())
