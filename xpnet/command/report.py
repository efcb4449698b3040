"""What a run prints and writes: introduction, history, table of results, metrics, pictures."""

import json
import os
import platform
import shlex
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xpnet
from xpnet._typing import Array
from xpnet.backends import LIBRARIES, Backend
from xpnet.command.formats import (
    format_command,
    format_count,
    format_loss,
    format_score,
)
from xpnet.command.options import Options
from xpnet.data import Dataset, Scaling
from xpnet.maths.mlp import MLP
from xpnet.training import TrainState
from xpnet.training.checkpoint import Model, save_model
from xpnet.training.scores import Evaluation, evaluate, predict

__all__ = ["History", "Parts", "introduce", "write_results"]


@dataclass(frozen=True, eq=False)
class Parts:
    """The rows of a data set on the device, scaled: each a pair X (n, d), Y (n, outputs), or None.

    `target_scaling` is the scaling of numeric targets, None if they are not scaled.
    """

    train: tuple[Array, Array]
    validation: tuple[Array, Array] | None
    test: tuple[Array, Array] | None
    target_scaling: Scaling | None

    @property
    def sample(self) -> tuple[Array, Array]:
        """At most 10,000 training rows, evenly spaced: enough to see the training score of each epoch."""
        X, Y = self.train
        every = slice(None, None, -(-X.shape[0] // 10_000))
        return X[every, ...], Y[every, ...]


class History:
    """Records in a file, one JSON object per line. Of an existing file the first `n` are kept."""

    def __init__(self, path: Path, n: int) -> None:
        # A run killed between writing its history and its checkpoint has one record too many.
        lines = path.read_text().splitlines()[:n] if path.exists() else []
        self.path, self.records = path, [json.loads(line) for line in lines]
        _write_text(path, "".join(line + "\n" for line in lines))

    def append(self, record: dict[str, float]) -> None:
        """Add a record, and write it to the file."""
        self.records.append(record)
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)  # atomic: a run killed here loses nothing


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


def write_results(
    folder: Path,
    options: Options,
    dataset: Dataset,
    mlp: MLP,
    state: TrainState,
    parts: Parts,
    history: list[dict[str, float]],
    score: str,
    backend: Backend,
    began: float,
) -> dict[str, Any]:
    """Evaluate the trained network, write its files into `folder`, print the results; return the metrics.

    `began` is the `time.monotonic()` at which the run began.
    """
    results = {
        name: evaluate(mlp, state.theta, *rows, backend=backend)
        for name, rows in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
        if rows is not None
    }
    theta = backend.to_numpy(state.theta)
    model = Model(
        mlp,
        theta,
        dataset.classes,
        dataset.picture,
        dataset.scaling,
        parts.target_scaling,
        None if dataset.columns is None else dataset.columns.to_dict(),
    )
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
    if state.best is not None:
        metrics["best_epoch"] = state.best.epoch
    metrics |= {
        "options": asdict(options),
        "xpnet_version": xpnet.__version__,
        "versions": _collect_versions(backend),
    }
    _write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    if not options.quiet:
        _print_table(results, score)
    if find_spec("matplotlib") is not None:
        _save_pictures(folder, dataset, mlp, state.theta, history, backend)
    if not options.quiet:
        _print_summary(state, folder, classifies=mlp.classifies, seconds=time.monotonic() - began)
    return metrics


def _save_pictures(
    folder: Path,
    dataset: Dataset,
    mlp: MLP,
    theta: Array,
    history: list[dict[str, float]],
    backend: Backend,
) -> None:
    from xpnet import plots

    figures = {"curves": plots.curves(history)} if history else {}
    if dataset.classes is not None:
        X, y, classes = dataset.X_test, dataset.y_test, dataset.classes
        if not y.size:
            X, y = dataset.X_train, dataset.y_train
        inputs = backend.asarray(dataset.scaling(X, backend.dtype_name))
        probabilities = predict(mlp, theta, inputs, backend=backend)
        figures["confusion"] = plots.confusion(y, probabilities.argmax(axis=1), classes)
        if dataset.picture is not None:
            figures["examples"] = plots.examples(X, y, classes, dataset.picture)
            figures["mistakes"] = plots.mistakes(X, y, probabilities, classes, dataset.picture)
            figures["prediction"] = plots.prediction(
                X[0], probabilities[0], classes, dataset.picture, truth=int(y[0])
            )
    if dataset.picture is not None:
        W = backend.to_numpy(mlp.layout.split(theta, xp=backend.xp)[0][0])
        figures["weights"] = plots.weights(W, dataset.picture)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)


def _print_table(results: dict[str, Evaluation], score: str) -> None:
    print()
    print(" " * 10 + "".join(f"{name:>12}" for name in results))
    print(f"{'loss':<10}" + "".join(f"{format_loss(result.loss):>12}" for result in results.values()))
    print(f"{score:<10}" + "".join(f"{format_score(result.score, score):>12}" for result in results.values()))
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
    return versions | {backend.name: LIBRARIES[backend.name].version()}
