"""Reports of each epoch to scikit-learn's callbacks (`sklearn.callback`) and to the progress bar."""

from typing import Any

from tqdm.auto import tqdm

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.maths.layout import Layout

__all__ = ["Tasks"]


class Tasks:
    """The epochs of a fit, or the iterations of L-BFGS, as tasks of scikit-learn's callbacks."""

    def __init__(
        self,
        estimator: Any,
        layout: Layout,
        X: Any,
        y: Any,
        sample_weight: Any,
        total: int,
        backend: Backend,
    ) -> None:
        self._estimator = estimator
        self._layout = layout
        self._backend = backend
        self._data = {"X": X, "y": y}
        if sample_weight is not None:
            self._data["metadata"] = {"sample_weight": sample_weight}
        self._context = None
        if hasattr(estimator, "_skl_callbacks"):
            self._context = estimator._init_callback_context(max_subtasks=total)
            self._context.call_on_fit_task_begin(estimator=estimator, **self._data)
        self._bar = tqdm(
            total=total, desc=type(estimator).__name__, unit="epoch", disable=estimator.verbose != "progress"
        )

    def begin(self) -> None:
        if self._context is not None:
            self._task = self._context.subcontext(task_name="epoch")
            self._task.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end(self, theta: Array) -> bool:
        """Report the end of a task, with its parameters. Return whether a callback requests to stop."""
        self._bar.set_postfix(loss=f"{self._estimator.loss_:.4g}", refresh=False)
        self._bar.update()
        if self._context is None:
            return False

        def make_attributes() -> dict[str, Any]:
            layers = self._layout.split(self._backend.copy(theta), xp=self._backend.xp)
            return {"coefs_": [W for W, _ in layers], "intercepts_": [b for _, b in layers]}

        return bool(
            self._task.call_on_fit_task_end(
                estimator=self._estimator, **self._data, reconstruction_attributes=make_attributes
            )
        )

    def close(self) -> None:
        """Close the progress bar. It stays visible."""
        self._bar.close()

    def finish(self) -> None:
        """Report that the fit has ended."""
        if self._context is not None:
            self._context.call_on_fit_task_end(
                estimator=self._estimator, **self._data, reconstruction_attributes={}
            )
