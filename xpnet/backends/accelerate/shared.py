"""A training step on PyTorch's tensors on the CPU, recorded once and repeated by NumPy on the same memory."""

from collections.abc import Callable
from typing import Any, cast

from xpnet._typing import Namespace
from xpnet.backends.accelerate.plan import record_step

__all__ = ["record_shared_step"]


def record_shared_step(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[list[Any], Callable[[], tuple[Any, Callable[[], None]]]]:
    """Return (what the step does, how to prepare it), as `Replay` expects of `fix`."""
    tensors: dict[int, Any] = {}

    def view(x: Any) -> Any:
        array = x.detach().numpy()
        tensors[id(array)] = x
        return array

    theta, moments, total = state
    arrays = (
        (view(theta), tuple(map(view, moments)), view(total)),
        tuple(map(view, data)),
        None if index is None else view(index),
        tuple(map(view, coefficients)),
    )
    description, prepare = record_step(step, *arrays, xp=xp)

    def prepare_tensors() -> tuple[Any, Callable[[], None]]:
        (theta, moments, total), run = prepare()
        return (find(theta), tuple(map(find, moments)), find(total)), run

    def find(array: Any, kept: Any = arrays) -> Any:
        """Return the tensor that `array` is a view of, or a new one on its memory."""
        return tensors[id(array)] if id(array) in tensors else cast(Any, xp).from_numpy(array)

    return description, prepare_tensors
