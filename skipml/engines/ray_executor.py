"""An executor, as the standard library has them, whose calls are tasks on a Ray cluster.

It is what `enrich` and `VectorIndex.build` take as `executor`. Ray runs a task again if its worker is killed or its
machine is gone; what skipml does in tasks may be done twice, as files are replaced in one step by the same content.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, TypeVar

from skipml.errors import SkipmlError

if TYPE_CHECKING:
    import ray

T = TypeVar("T")


class RayExecutor(Executor):
    """Runs each call as a task with `cpus` processors, again up to `retries` times if its worker dies.

    It uses the cluster that the process is connected to by `ray.init`, else Ray starts one on this machine. A function
    that is submitted again and again is stored on the cluster once, so what all calls share belongs into it. Raises
    SkipmlError where Ray is not installed.
    """

    def __init__(self, *, cpus: float = 1, retries: int = 5) -> None:
        try:
            import ray
        except ImportError:
            raise SkipmlError("this needs Ray: pip install 'skipml[ray]'") from None
        self._task: Any = ray.remote(num_cpus=cpus, max_retries=retries)(_call)
        self._running: set[Future[Any]] = set()
        self._stored: tuple[Callable[..., Any], ray.ObjectRef[Any]] | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Start a task; errors of the function come out of the future as they are."""
        import ray

        if self._stored is None or self._stored[0] is not fn:
            self._stored = fn, ray.put(fn)
        found: Future[T] = self._task.remote(self._stored[1], args, kwargs).future()
        self._running.add(found)
        found.add_done_callback(self._running.discard)
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the tasks, if asked to, and forget what was stored; the cluster goes on."""
        if wait:
            wait_for(set(self._running))
        self._stored = None


def connected(address: str) -> RayExecutor:
    """One on the cluster at an address, or with "local" on one that is started for this process."""
    executor = RayExecutor()
    import ray

    if not ray.is_initialized():
        ray.init(address, log_to_driver=False)
    return executor


def _call(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    return function(*args, **kwargs)
