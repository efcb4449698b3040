"""Export of a trained network to ONNX.

The graph maps rows as stored to predictions, so it includes the scaling of inputs and targets. It consists of
operators of the domain `ai.onnx` in opset 17 that onnxruntime implements for float32 and float64.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import xpnet
from xpnet.backends import DTYPES
from xpnet.data.columns import Columns
from xpnet.errors import InputError, choose
from xpnet.maths.losses import exponential_mean, softmax
from xpnet.maths.ops import identity, logistic
from xpnet.training.files import replace_file
from xpnet.training.model import Model

__all__ = ["find_rounding_problem", "save_onnx"]

OPSET, IR_VERSION = 17, 8  # the version of the format that introduced this opset

# Float32 is too coarse for a column whose values it rounds by more than this share of their deviation.
LARGEST_ERROR = 1e-3


def save_onnx(path: Path, model: Model, dtype: str = "float32") -> list[str]:
    """Write a model to an ONNX file.

    The input is `X` (n, n_features). A classifier has the outputs `label` and `probabilities`: (n,) labels or
    a matrix (n, n_labels) of 0 and 1, and (n, n_classes) probabilities. A regressor has the output `variable`
    (n, n_outputs).

    Args:
        dtype: "float32" or "float64", the type of X, of the parameters and of the numbers predicted.

    Returns:
        The input and each output as text, such as "X (n, 784) float32".

    Raises:
        InputError: if onnx is not installed, or if class labels are neither numbers nor text.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError("exporting to ONNX needs onnx: pip install onnx") from error
    choose("dtype", dtype, DTYPES)
    graph = _Graph(onnx, dtype)
    z = _add_layers(graph, model)
    outputs = _add_numbers(graph, model, z) if model.classes is None else _add_classes(graph, model, z)
    x = _Value("X", dtype, ("n", model.mlp.sizes[0]))
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "xpnet",
            [graph.declare(x)],
            [graph.declare(output) for output in outputs],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xpnet",
        producer_version=xpnet.__version__,
        doc_string=f"A multilayer perceptron with layers of {', '.join(map(str, model.mlp.sizes))} units",
    )
    onnx.helper.set_model_props(made, _make_metadata(model))
    replace_file(path, made.SerializeToString())
    return [f"{name} ({', '.join(map(str, shape))}) {kind}" for name, kind, shape in (x, *outputs)]


def find_rounding_problem(model: Model) -> str | None:
    """Return why float32 is too coarse for the rows of a model as stored, or None if it is not."""
    if model.scaling is None:
        return None
    shift, factor = model.scaling
    coarse = np.flatnonzero(np.abs(shift * factor) * np.finfo(np.float32).eps > LARGEST_ERROR)
    if not coarse.size:
        return None
    j = coarse[0]
    return (
        f"float32 is too coarse for column {j + 1} of X, which is {shift[j]:g} ± {1 / factor[j]:g}: "
        "export as float64"
    )


class _Value(NamedTuple):
    """An input or an output of a graph. Its shape contains names of dimensions, such as "n"."""

    name: str
    dtype: str
    shape: tuple[str | int, ...]


class _Graph:
    """The operators and constants of an ONNX graph."""

    def __init__(self, onnx: Any, dtype: str) -> None:
        self.onnx, self.dtype = onnx, dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str | float, output: str | None = None, **attributes: Any) -> str:
        """Add an operator and return the name of its output. A number among the inputs is a constant."""
        name = output or f"{operator}_{len(self.nodes)}"
        names = [given if isinstance(given, str) else self.store(f"{given:g}", given) for given in inputs]
        self.nodes.append(self.onnx.helper.make_node(operator, names, [name], name, **attributes))
        return name

    def store(self, name: str, values: Any, dtype: Any = None) -> str:
        """Store a constant, in the dtype of the graph unless another one is given. Return its name."""
        array = np.asarray(values, dtype=self.dtype if dtype is None else dtype, order="C")
        self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def declare(self, value: _Value) -> Any:
        """Return the declaration of an input or an output."""
        dtype = np.dtype(object if value.dtype == "string" else value.dtype)
        helper = self.onnx.helper
        return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(dtype), value.shape)


def _add_layers(graph: _Graph, model: Model) -> str:
    """Add the scaling of X and the layers. Return the name of the last layer's z."""
    h = "X"
    if model.scaling is not None:
        if model.scaling.shift.any():
            h = graph.add("Sub", h, graph.store("scaling.shift", model.scaling.shift))
        h = graph.add("Mul", h, graph.store("scaling.factor", model.scaling.factor))
    layers: list[Any] = model.mlp.layout.split(model.theta, xp=np)  # type: ignore[arg-type]
    for i, (W, b) in enumerate(layers):
        h = graph.add("Gemm", h, graph.store(f"layers.{i}.weight", W), graph.store(f"layers.{i}.bias", b))
        if i < len(layers) - 1:
            h = _ACTIVATIONS[model.mlp.activations[i]](graph, h)
    return h


def _add_leaky_relu(graph: _Graph, z: str) -> str:
    return graph.add("Max", z, graph.add("Mul", z, 0.01))


def _add_elu(graph: _Graph, z: str) -> str:
    below = graph.add("Sub", graph.add("Exp", graph.add("Min", z, 0.0)), 1.0)
    return graph.add("Add", graph.add("Relu", z), below)


def _add_softplus(graph: _Graph, z: str) -> str:
    e = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    return graph.add("Add", graph.add("Relu", z), graph.add("Log", graph.add("Add", e, 1.0)))


# ONNX has operators for all of them, but onnxruntime has Elu and Softplus in float32 only, and the slope of
# LeakyRelu is rounded to float32.
_ACTIVATIONS: dict[str, Callable[[_Graph, str], str]] = {
    "identity": lambda graph, z: z,
    "logistic": lambda graph, z: graph.add("Sigmoid", z),
    "tanh": lambda graph, z: graph.add("Tanh", z),
    "relu": lambda graph, z: graph.add("Relu", z),
    "leaky_relu": _add_leaky_relu,
    "elu": _add_elu,
    "softplus": _add_softplus,
}

# By the function of the loss that maps z to the prediction.
_PREDICTIONS: dict[Any, Callable[[_Graph, str], str]] = {
    softmax: lambda graph, z: graph.add("Softmax", z, axis=1),
    logistic: lambda graph, z: graph.add("Sigmoid", z),
    identity: lambda graph, z: z,
    exponential_mean: lambda graph, z: graph.add("Exp", z),
}


def _add_numbers(graph: _Graph, model: Model, z: str) -> list[_Value]:
    """Add the numbers that a regressor predicts, and return the output."""
    y = _PREDICTIONS[model.mlp.criterion.predict](graph, z)
    if model.target_scaling is not None:
        y = graph.add("Div", y, graph.store("target_scaling.factor", model.target_scaling.factor))
        y = graph.add("Add", y, graph.store("target_scaling.shift", model.target_scaling.shift))
    graph.add("Identity", y, output="variable")
    return [_Value("variable", graph.dtype, ("n", model.mlp.sizes[-1]))]


def _add_classes(graph: _Graph, model: Model, z: str) -> list[_Value]:
    """Add the labels and the probabilities of a classifier, and return both outputs."""
    n_outputs = model.mlp.sizes[-1]
    p = _PREDICTIONS[model.mlp.criterion.predict](graph, z)
    if n_outputs == 1:
        p = graph.add("Concat", graph.add("Sub", 1.0, p), p, axis=1)
    graph.add("Identity", p, output="probabilities")
    probabilities = _Value("probabilities", graph.dtype, ("n", max(n_outputs, 2)))
    integer = graph.onnx.TensorProto.INT64
    if model.is_multilabel:
        graph.add("Cast", graph.add("Greater", z, 0.0), to=integer, output="label")
        return [_Value("label", "int64", ("n", n_outputs)), probabilities]
    classes, dtype = _convert_classes(model.classes)
    if n_outputs == 1:
        classes = np.resize(classes, 2)  # twice the same where there is only one
        column = graph.add("Cast", graph.add("Greater", z, 0.0), to=integer)
        index = graph.add("Reshape", column, graph.store("shape", [-1], np.int64))
    else:
        index = graph.add("ArgMax", z, axis=1, keepdims=0)
    graph.add("Gather", graph.store("classes", classes, classes.dtype), index, output="label")
    return [_Value("label", dtype, ("n",)), probabilities]


def _convert_classes(classes: Any) -> tuple[NDArray[Any], str]:
    """Return class labels (n_classes,) in a type that ONNX has, and the name of that type."""
    if classes.dtype.kind in "biuf":
        dtype = {"b": "bool", "f": "float64"}.get(classes.dtype.kind, "int64")
        largest = np.iinfo(np.int64).max
        if classes.dtype.kind == "u" and classes.max() > largest:
            raise InputError(
                f"expected class labels of at most {largest}, which int64 holds, got {classes.max()}. Fit "
                "with smaller numbers, or with text"
            )
        return classes.astype(dtype), dtype
    if not all(isinstance(name, str) for name in classes.tolist()):
        raise InputError(f"expected class labels that are numbers or text, got {classes!r}")
    return classes.astype(object), "string"


def _make_metadata(model: Model) -> dict[str, str]:
    """Return what the graph does not say, as JSON."""
    columns = None if model.columns is None else Columns.from_dict(model.columns)
    features = columns.name_inputs() if columns else (model.estimator or {}).get("feature_names")
    about = {
        "xpnet_version": xpnet.__version__,
        "classes": None if model.classes is None else model.classes.tolist(),
        "feature_names": features,
        "columns": columns.to_dict() if columns and columns.encodes else None,
        "picture": model.picture,
    }
    return {name: json.dumps(value) for name, value in about.items() if value is not None}
