"""Neural networks written once against the Array API: NumPy, CuPy, PyTorch and JAX run the same lines."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xpnet.backends import Backend as Backend
    from xpnet.backends import resolve as resolve
    from xpnet.data.loading import load as load
    from xpnet.estimator import MLPClassifier as MLPClassifier
    from xpnet.estimator import MLPRegressor as MLPRegressor
    from xpnet.maths import losses as losses
    from xpnet.maths import ops as ops
    from xpnet.maths import schedules as schedules
    from xpnet.maths.mlp import MLP as MLP
    from xpnet.maths.optimizers import SGD as SGD
    from xpnet.maths.optimizers import Adagrad as Adagrad
    from xpnet.maths.optimizers import Adam as Adam
    from xpnet.maths.optimizers import AdamW as AdamW
    from xpnet.maths.optimizers import RMSprop as RMSprop
    from xpnet.training import epochs as epochs
    from xpnet.training import evaluate as evaluate
    from xpnet.training import predict as predict

# Imported on first use, so that `import xpnet` takes no longer than `import numpy`.
_MODULES = {
    "MLP": "maths.mlp",
    "MLPClassifier": "estimator",
    "MLPRegressor": "estimator",
    "SGD": "maths.optimizers",
    "Adagrad": "maths.optimizers",
    "Adam": "maths.optimizers",
    "AdamW": "maths.optimizers",
    "Backend": "backends",
    "RMSprop": "maths.optimizers",
    "epochs": "training",
    "evaluate": "training",
    "load": "data.loading",
    "losses": "maths",
    "ops": "maths",
    "predict": "training",
    "resolve": "backends",
    "schedules": "maths",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
    module = import_module(f"xpnet.{_MODULES[name]}")
    return getattr(module, name) if hasattr(module, name) else import_module(f"{module.__name__}.{name}")


def __dir__() -> list[str]:
    return __all__
