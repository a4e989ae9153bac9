"""Which TFF context is the default of this thread: the innermost runtime's that is open."""

import contextlib
from collections.abc import Iterator

import tensorflow_federated as tff

_active_contexts: list[tff.framework.SyncContext] = []


@contextlib.contextmanager
def as_default(context: tff.framework.SyncContext) -> Iterator[None]:
    """Makes a context TFF's default for this thread while the body runs.

    Afterwards the default is the context of the enclosing body, or one that refuses to compute:
    TFF's own default would start a worker that nobody stops.

    Args:
      context: The context.
    """
    enclosing = _active_contexts[-1] if _active_contexts else None
    _active_contexts.append(context)
    tff.framework.set_default_context(context)
    try:
        yield
    finally:
        _active_contexts.remove(context)
        tff.framework.set_default_context(enclosing or tff.test.create_runtime_error_context())
