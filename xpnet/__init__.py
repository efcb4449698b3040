"""Neural networks written once against the Array API: NumPy, CuPy, PyTorch and JAX run the same lines."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xpnet.backend import Backend as Backend
    from xpnet.backend import resolve as resolve
    from xpnet.datasets import load as load
    from xpnet.estimator import MLPClassifier as MLPClassifier
    from xpnet.estimator import MLPRegressor as MLPRegressor
    from xpnet.evaluation import evaluate as evaluate
    from xpnet.evaluation import predict as predict
    from xpnet.mlp import MLP as MLP
    from xpnet.optimizers import SGD as SGD
    from xpnet.optimizers import Adagrad as Adagrad
    from xpnet.optimizers import Adam as Adam
    from xpnet.optimizers import AdamW as AdamW
    from xpnet.optimizers import RMSprop as RMSprop
    from xpnet.training import epochs as epochs

# Resolved on first use, so that `import xpnet` costs no more than NumPy.
_HOMES = {
    "MLP": "mlp",
    "MLPClassifier": "estimator",
    "MLPRegressor": "estimator",
    "SGD": "optimizers",
    "Adagrad": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "Backend": "backend",
    "RMSprop": "optimizers",
    "epochs": "training",
    "evaluate": "evaluation",
    "load": "datasets",
    "predict": "evaluation",
    "resolve": "backend",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
    return getattr(import_module(f"xpnet.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
