"""A training step that is recorded once, and then repeated on the same arrays."""

import logging
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from xpnet._typing import Namespace
from xpnet.backends.accelerate.traced import NotRecordable
from xpnet.backends.backend import Steps, count_steps, take_steps

__all__ = ["Replay"]

# The second of these checks comes after so many steps at least. A check takes as long as 1 to 8 steps.
_CHECK_AFTER = 512


class Replay:
    """A training step as `Backend.compile_step` describes it, for libraries that write in place.

    The step must be a fixed list of array operations: its Python code runs while it is recorded, and not when
    it is repeated. The step is therefore recorded again at its second call and after 1, 2, 4, 8 ... epochs;
    if these are short, after 1 and then after `_CHECK_AFTER` steps. If the list has changed, a RuntimeWarning
    says so, and from then on each step runs as written. This notices a number that changes at each call or
    with each epoch, but not one that changes after many calls, because a repeated step does not call its
    code.

    A step that is recorded again runs as recorded then, so its Python code runs at most once per step.

    Args:
        step: (state, data, index, coefficients, *, xp) -> state.
        xp: the namespace with which the step runs as written.
        fix: (step, state, data, index, coefficients, *, xp) -> (description, prepare). The coefficients are
            0-d arrays. The description is a list with an entry for each operation and one for the results,
            equal where the step does the same. `prepare()` returns the arrays of the state after the step,
            and a function without arguments that runs the step on the arrays given to `fix`. If `fix` or
            `prepare` raises NotRecordable, each step runs as written.
        steps_per_epoch: steps after which an epoch ends.
        locate: the identity of an array and its memory. If that of an array has changed since the step was
            recorded, it is recorded anew.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        xp: Namespace,
        fix: Callable[..., Any],
        steps_per_epoch: int,
        locate: Callable[[Any], Any] = id,
    ) -> None:
        self.step, self.xp, self.fix, self.steps_per_epoch = step, xp, fix, steps_per_epoch
        self.locate = locate
        self.plain = partial(take_steps, step, xp=xp)
        self.fixed: dict[Any, _Fixed | None] = {}
        self.n_steps = self.checked_at = 0
        self.check_at = steps_per_epoch
        self.has_changed = False

    def __call__(self, state: Any, data: Any, steps: Steps, first: int, last: int) -> Any:
        i = first
        while i < last:
            try:
                fixed = None if self.has_changed else self._find(state, data, steps, i)
                # The step after the recorded one is recorded again. All others can be repeated at once.
                end = last if fixed is None or fixed.is_confirmed else i + 1
                state = (fixed or self.plain)(state, data, steps, i, end)
            except BaseException as error:
                raise count_steps(error, i - first, state)  # noqa: B904 (it may be the error itself)
            self.n_steps += end - i
            i = end
        return state

    def _find(self, state: Any, data: Any, steps: Steps, i: int) -> "_Fixed | None":
        """Return the recording to repeat from step i on, or None if the step runs as written."""
        key = tuple(map(self.locate, data)), steps.count_rows(i)
        if (known := self.fixed.get(key)) is not None and known.has_moved:
            del self.fixed[key]
        if key not in self.fixed:
            self.fixed[key] = self._fix(state, data, steps.find_rows(i), steps.coefficients.shape[1])
        elif (known := self.fixed[key]) is not None and self._is_due(known):
            self.fixed[key] = self._check(known)
        return self.fixed[key]

    def _fix(self, state: Any, data: Any, index: Any, n_coefficients: int) -> "_Fixed | None":
        try:
            return _Fixed(self, state, data, index, n_coefficients)
        except NotRecordable as reason:
            if None not in self.fixed.values():
                log = logging.getLogger("xpnet")
                log.info("the training step is not recorded but runs as written: %s", reason)
            return None

    def _is_due(self, fixed: "_Fixed") -> bool:
        return not fixed.is_confirmed or self.n_steps >= self.check_at

    def _check(self, fixed: "_Fixed") -> "_Fixed | None":
        """Return the recording that the current step replays, or None to run the step as written."""
        now: _Fixed | None = fixed
        try:
            change = fixed.fix_again()
        except NotRecordable as reason:
            now, change = None, f"it can no longer be recorded: {reason}"
        if change is not None:
            self.has_changed = True
            message = (
                "xpnet records a training step once, as a fixed list of array operations, and repeats it. "
                f"The step has changed: {change}. From now on each step runs as written, which is slower"
            )
            if repeated := self.n_steps - self.checked_at - 1:
                message += f". Steps that repeated the list since the last check: {repeated}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        fixed.is_confirmed, self.checked_at = True, self.n_steps
        if self.n_steps >= self.check_at:
            n_epochs = math.ceil(max(2 * self.n_steps, _CHECK_AFTER) / self.steps_per_epoch)
            self.check_at = n_epochs * self.steps_per_epoch
        return now


class _Fixed:
    """The step for these data and as many rows of them, with the arrays that it works on."""

    def __init__(self, of: Replay, state: Any, data: Any, index: Any, n_coefficients: int) -> None:
        xp: Any = of.xp
        self.xp = xp
        theta, moments, total = state
        total = xp.asarray(total)  # NumPy turns a 0-d array into a number in most operations
        self.data = data  # the key has their ids
        self.index = None if index is None else xp.asarray(index, copy=True)
        self.coefficients = tuple(xp.zeros_like(total) for _ in range(n_coefficients))
        self.state = theta, *moments, total
        self.fix = partial(
            of.fix, of.step, (theta, moments, total), data, self.index, self.coefficients, xp=xp
        )
        self.description, prepare = self.fix()
        self.result, self.run = prepare()
        self.is_confirmed = False
        self.locate = of.locate
        self.places = list(map(of.locate, self.state))

    @property
    def has_moved(self) -> bool:
        """Whether an array of the state has other memory than when the step was recorded."""
        return self.locate is not id and self.places != list(map(self.locate, self.state))

    def fix_again(self) -> str | None:
        """Return how the step has changed, or None. If it has, this is from now on the changed step."""
        description, prepare = self.fix()
        change = _find_difference(self.description, description)
        if change is not None:
            self.result, self.run = prepare()
        return change

    def __call__(self, state: Any, data: Any, steps: Steps, first: int, last: int) -> Any:
        theta, moments, total = state
        foreign = [
            (ours, self.xp.asarray(given, copy=True))  # it may be another one of ours
            for ours, given in zip(self.state, (theta, *moments, total), strict=True)
            if given is not ours
        ]
        for ours, copy in foreign:
            ours[...] = copy
        for i in range(first, last):
            if self.index is not None:
                self.index[...] = steps.find_rows(i)
            for place, number in zip(self.coefficients, steps.find_coefficients(i), strict=True):
                place[...] = number
            try:
                self.run()
            except BaseException as error:
                raise count_steps(error, i - first, self.result)  # noqa: B904 (it may be the error itself)
        return self.result


def _find_difference(before: list[Any], now: list[Any]) -> str | None:
    """Return the first difference between the descriptions of two steps in words, or None."""
    if before == now:
        return None
    if len(before) != len(now):
        return f"its {len(before) - 1} operations are now {len(now) - 1}"
    i = next(i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
    if i == len(before) - 1:
        return "it now returns other arrays"
    earlier, later = _to_text(*before[i]), _to_text(*now[i])
    return f"operation {i + 1}, {earlier}, is now {later if later != earlier else 'made of other arrays'}"


def _to_text(function: Any, *arguments: Any) -> str:
    inputs = ("array" if isinstance(x, tuple) and not isinstance(x[0], str) else x for x in arguments[:-1])
    values = ", ".join(x[0] if isinstance(x, tuple) else str(x) for x in inputs)
    return f"{function.__name__.lstrip('_')}({values})"
