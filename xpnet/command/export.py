"""`xpnet export`: a trained network as a file for other runtimes."""

import argparse
from pathlib import Path

from xpnet.command.formats import escape
from xpnet.command.predict import open_model, warn
from xpnet.data.columns import Columns
from xpnet.errors import choose
from xpnet.training.export import find_rounding_problem, save_onnx

__all__ = ["export_model"]


def export_model(arguments: argparse.Namespace) -> int:
    """Export a trained network to ONNX, with the scaling of its inputs and outputs."""
    choose("format", arguments.to, ("onnx",))
    model = open_model(arguments.model)
    path = Path(arguments.model)
    output = path / "model.onnx" if path.is_dir() else path.with_suffix(".onnx")
    output = output if arguments.output is None else Path(arguments.output)
    if model.columns is not None and Columns.from_dict(model.columns).encodes:
        warn(
            f"{arguments.model}: the table had text columns or missing values, and X takes its encoded rows. "
            "The metadata of the file say how to encode a row (feature_names, columns)"
        )
    problem = find_rounding_problem(model) if arguments.dtype == "float32" else None
    if problem is not None:
        warn(f"{arguments.model}: {problem}, with --dtype float64")
    x, *predictions = save_onnx(output, model, arguments.dtype)
    print(f"Model saved in {escape(output)}\n  input:  {x}")
    for prediction in predictions:
        print(f"  output: {prediction}")
    return 0
