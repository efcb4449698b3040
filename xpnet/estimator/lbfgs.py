"""The solver "lbfgs": SciPy updates the flat parameter vector, the device computes the gradients."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from sklearn.utils.optimize import _check_optimize_result

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.estimator.callbacks import Tasks
from xpnet.estimator.objective import report_loss
from xpnet.maths.mlp import MLP
from xpnet.training.loop import compute_gradient_in_chunks
from xpnet.training.step import compile_gradient

__all__ = ["minimize_by_lbfgs"]


def minimize_by_lbfgs(
    estimator: Any, mlp: MLP, theta: Array, data: tuple[Any, ...], *, backend: Backend, tasks: Tasks
) -> Array:
    """Minimize the loss over all rows with L-BFGS-B (Byrd et al. 1995). Return the parameters.

    The gradient is summed over chunks of `backend.chunk_rows` rows.

    Args:
        data: (X, Y) or (X, Y, weight).
    """
    gradient = compile_gradient(mlp, backend)
    X, _, weight = (*data, None)[:3]
    with backend.as_current():
        l2 = float(mlp.normalize(weight, X.shape[0], xp=backend.xp)[1])
    stopped = False

    def loss_and_grad(theta: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        # `fit` raises an error at the end if the parameters are not finite.
        with backend.as_current(), np.errstate(all="ignore"):
            loss, g = compute_gradient_in_chunks(mlp, gradient, backend.asarray(theta), data, backend=backend)
            return float(loss), backend.to_numpy(g).astype(np.float64)

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        nonlocal stopped
        estimator.loss_ = report_loss(mlp, l2, float(intermediate_result.fun), intermediate_result.x)
        tasks.begin()
        if stopped := tasks.end(backend.asarray(intermediate_result.x)):
            raise StopIteration

    result = minimize(
        loss_and_grad,
        backend.to_numpy(theta).astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
        callback=after_iteration,
    )
    estimator.n_iter_ = result.nit if stopped else _check_optimize_result("lbfgs", result, estimator.max_iter)
    estimator.loss_ = report_loss(mlp, l2, float(result.fun), result.x)
    return backend.asarray(result.x)
