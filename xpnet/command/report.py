"""What a run prints and writes: introduction, history, table of results, metrics, pictures."""

import json
import platform
import shlex
import time
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import xpnet
from xpnet.backends import LIBRARIES, Backend
from xpnet.command.formats import (
    format_command,
    format_count,
    format_loss,
    format_score,
)
from xpnet.command.options import Options
from xpnet.command.parts import Parts
from xpnet.command.predictions import Predictions, class_scores, class_table, predict_rows
from xpnet.data.dataset import Dataset
from xpnet.maths.mlp import MLP
from xpnet.training import TrainState
from xpnet.training.files import replace_file
from xpnet.training.model import Model, save_model
from xpnet.training.scores import Evaluation, evaluate

__all__ = ["History", "Parts", "introduce", "make_model", "write_results"]

# With more classes their table would drown the rest; `metrics.json` has all.
MOST_CLASSES = 20


class History:
    """Records in a file, one JSON object per line. Of an existing file the first `n` are kept."""

    def __init__(self, path: Path, n: int) -> None:
        # A run killed between writing its history and its checkpoint has one record too many.
        lines = path.read_text().splitlines()[:n] if path.exists() else []
        self.path, self.records = path, [json.loads(line) for line in lines]
        replace_file(path, "".join(line + "\n" for line in lines).encode())

    def append(self, record: dict[str, float]) -> None:
        """Add a record, and write it to the file."""
        self.records.append(record)
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")


def introduce(
    options: Options, mlp: MLP, dataset: Dataset, parts: Parts, backend: Backend, notices: list[str]
) -> None:
    """Print the data, the network, the device, and the messages of the backend."""
    if options.quiet:
        return
    n_train, n_validation, n_test = (
        0 if rows is None else rows[0].shape[0] for rows in (parts.train, parts.validation, parts.test)
    )
    print(
        f"{dataset.name}: {n_train:,} training, {n_validation:,} validation and {n_test:,} test rows",
        *dataset.notes,
        f"{'-'.join(map(str, mlp.sizes))} network ({mlp.layout.n_parameters:,} parameters), "
        f"{backend.name} on {backend.device_name}, {backend.dtype_name}",
        *notices,
        sep="\n",
        flush=True,
    )


def make_model(dataset: Dataset, mlp: MLP, theta: NDArray[Any], parts: Parts) -> Model:
    """Return a network with what the data says about its inputs and outputs."""
    return Model(
        mlp,
        theta,
        dataset.labels,
        dataset.picture,
        dataset.scaling,
        parts.target_scaling,
        columns=None if dataset.columns is None else dataset.columns.to_dict(),
    )


def write_results(
    folder: Path,
    options: Options,
    dataset: Dataset,
    mlp: MLP,
    state: TrainState,
    best_epoch: int | None,
    parts: Parts,
    history: list[dict[str, float]],
    score: str,
    backend: Backend,
    began: float,
) -> dict[str, Any]:
    """Evaluate the trained network, write its files into `folder`, print the results; return the metrics.

    `began` is the `time.monotonic()` at which the run began.
    """
    given = {
        name: rows
        for name, rows in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
        if rows is not None
    }
    results = {name: evaluate(mlp, state.theta, *rows, backend=backend) for name, rows in given.items()}
    # The last part is the one that says most about rows the network has not seen.
    predictions = predict_rows(
        mlp, state.theta, *list(given.items())[-1], parts.target_scaling, backend=backend
    )
    per_class = []
    if dataset.classes is not None:
        per_class = class_scores(predictions.y, predictions.predicted.argmax(axis=1), dataset.classes)
    model = make_model(dataset, mlp, backend.to_numpy(state.theta), parts)
    save_model(folder / "model.safetensors", model)
    n_rows = state.epoch * parts.train[0].shape[0]
    metrics: dict[str, Any] = {
        "data": dataset.name,
        "backend": backend.name,
        "device": backend.device_name,
        "dtype": backend.dtype_name,
        "sizes": list(mlp.sizes),
        "n_parameters": mlp.layout.n_parameters,
        "seed": options.seed,
        "epochs": state.epoch,
        "steps": state.step,
        "seconds": round(state.seconds, 3),
        "samples_per_second": round(n_rows / state.seconds) if state.seconds else None,
        f"validation_{score}": None,
    }
    for name, result in results.items():
        metrics |= {f"{name}_loss": result.loss, f"{name}_{score}": result.score}
    if best_epoch is not None:
        metrics["best_epoch"] = best_epoch
    if per_class:
        metrics[f"{predictions.part}_per_class"] = per_class
    metrics |= {
        "options": asdict(options),
        "xpnet_version": xpnet.__version__,
        "versions": _collect_versions(backend),
    }
    replace_file(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    if not options.quiet:
        table = class_table(predictions.part, per_class) if 0 < len(per_class) <= MOST_CLASSES else ""
        _print_table(results, score, table, options.loss_extras)
    if find_spec("matplotlib") is not None:
        kept = best_epoch if options.keeps_best else None
        _save_pictures(folder, options, dataset, mlp, state, kept, history, predictions, backend)
    elif not options.quiet:
        print("No pictures: matplotlib is missing. To install it: pip install matplotlib\n")
    if not options.quiet:
        _print_summary(state, folder, classifies=mlp.classifies, seconds=time.monotonic() - began)
    return metrics


def _save_pictures(
    folder: Path,
    options: Options,
    dataset: Dataset,
    mlp: MLP,
    state: TrainState,
    kept: int | None,
    history: list[dict[str, float]],
    predictions: Predictions,
    backend: Backend,
) -> None:
    from xpnet import plots

    part = "training" if predictions.part == "train" else predictions.part
    X, y, predicted = predictions.X, predictions.y, predictions.predicted
    classes, picture, figures = dataset.classes, dataset.picture, {}
    if history:
        figures["curves"] = plots.curves(history, kept=kept, loss_includes=options.loss_extras)
    if classes is None:
        figures["regression"] = plots.regression(y, predicted, part=part)
    else:
        figures["confusion"] = plots.confusion(y, predicted.argmax(axis=1), classes, part=part)
        if picture is not None:
            figures["examples"] = plots.examples(X, y, classes, picture)
            figures["mistakes"] = plots.mistakes(X, y, predicted, classes, picture, part=part)
            figures["prediction"] = plots.prediction(
                X[0], predicted[0], classes, picture, true_class=int(y[0])
            )
    if picture is not None:
        W = backend.to_numpy(mlp.layout.split(state.theta, xp=backend.xp)[0][0])
        if len(mlp.sizes) > 2:
            figures["weights"] = plots.weights(W, picture)
        elif classes is None or W.shape[1] < len(classes):
            # A single logistic output is for the second of two classes.
            names = [] if classes is None else [f"{classes[1]} rather than {classes[0]}"]
            figures["weights"] = plots.weights(W, picture, unit="output", names=names)
        else:
            figures["weights"] = plots.weights(W, picture, unit="class", names=classes)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)


def _print_table(results: dict[str, Evaluation], score: str, per_class: str, loss_extras: list[str]) -> None:
    print()
    print(" " * 10 + "".join(f"{name:>12}" for name in results))
    print(f"{'loss':<10}" + "".join(f"{format_loss(result.loss):>12}" for result in results.values()))
    print(f"{score:<10}" + "".join(f"{format_score(result.score, score):>12}" for result in results.values()))
    if loss_extras:
        print(f"(The loss during training includes {' and '.join(loss_extras)}, this one does not.)")
    if per_class:
        print(f"\n{per_class}")
    print(flush=True)


def _print_summary(state: TrainState, folder: Path, *, classifies: bool, seconds: float) -> None:
    counts = f"{format_count(state.epoch, 'epoch')}, {format_count(state.step, 'step')}"
    print(f"{counts}: {state.seconds:.1f} s of training, {seconds:.1f} s in total")
    print(f"Results saved in {folder}")
    print(f"To {'classify' if classifies else 'predict from'} your own files:")
    print(f"  {format_command('predict')} {shlex.quote(str(folder))} FILE...")


def _collect_versions(backend: Backend) -> dict[str, str | None]:
    names = ("numpy", "array-api-compat", "scikit-learn", "safetensors")
    versions = {"python": platform.python_version(), **{name: version(name) for name in names}}
    return versions | {backend.name: LIBRARIES[backend.name].find_version()}
