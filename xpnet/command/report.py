"""What a run shows and leaves behind: progress bar, table, history, metrics, pictures."""

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

from tqdm import tqdm

import xpnet
from xpnet._typing import Array
from xpnet.backends import LIBRARIES, Backend
from xpnet.command.options import Options
from xpnet.command.predictions import Predictions, class_scores, class_table, predict_rows
from xpnet.data import Dataset, Scaling
from xpnet.errors import INSTALL_PLOT
from xpnet.maths.mlp import MLP
from xpnet.training.checkpoint import Model, save_model
from xpnet.training.loop import Epoch, TrainState
from xpnet.training.scores import Evaluation, evaluate

__all__ = ["History", "Parts", "Progress", "introduce", "write_results"]

# With more classes their table would drown the rest; `metrics.json` has all.
MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Parts:
    """The rows of a data set on the device, scaled: each a pair X (n, d), Y (n, outputs), or None.

    `target_scaling` is what numeric targets were scaled by, None if they were not.
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
    """Records in a file, one JSON object a line, of which the first `n` are taken over."""

    def __init__(self, path: Path, n: int) -> None:
        # A run killed between its history and its checkpoint has a record too many.
        lines = path.read_text().splitlines()[:n] if path.exists() else []
        self.path, self.records = path, [json.loads(line) for line in lines]
        _write_text(path, "".join(line + "\n" for line in lines))

    def append(self, record: dict[str, float]) -> None:
        self.records.append(record)
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)  # a run killed right here loses nothing


class Progress:
    """A bar over all rows of all epochs, with the rows per second that tqdm works out."""

    def __init__(self, options: Options, n: int, state: TrainState) -> None:
        self.n, self.batch_size = n, options.batch_size or n
        self.text: dict[str, str] = {}
        self.read = time.monotonic()
        self.bar = tqdm(
            total=options.epochs * n,
            initial=state.epoch * n + min(state.batch * self.batch_size, n),
            unit=" samples",
            unit_scale=True,
            disable=options.quiet,
            dynamic_ncols=True,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {rate_fmt}{postfix}",
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def advance(self, state: TrainState) -> None:
        done = state.batch * self.batch_size
        self.bar.update(min(self.batch_size, self.n - done + self.batch_size))
        # Reading the loss waits for the device: once a second costs nothing.
        if not self.bar.disable and time.monotonic() > self.read + 1.0:
            self.read = time.monotonic()
            self.text["loss"] = _loss(float(state.loss_sum) / min(done, self.n))
            self.bar.set_postfix(self.text)

    def show(self, record: Epoch, score: str) -> None:
        self.read = time.monotonic()
        self.text["loss"] = _loss(record.train_loss)
        if record.validation is not None:
            self.text[f"validation {score}"] = _percent(record.validation.score, score)
        self.bar.set_description(f"epoch {record.epoch}", refresh=False)
        self.bar.set_postfix(self.text)


def introduce(options: Options, mlp: MLP, dataset: Dataset, parts: Parts, backend: Backend) -> None:
    """Print what is trained, on what and where."""
    if options.quiet:
        return
    n_train, n_validation, n_test = (
        0 if rows is None else rows[0].shape[0] for rows in (parts.train, parts.validation, parts.test)
    )
    print(
        f"{dataset.name}: {n_train} training, {n_validation} validation and {n_test} test rows\n"
        f"{'-'.join(map(str, mlp.sizes))} network ({mlp.layout.n_parameters:,} parameters), "
        f"{backend.name} on {backend.device_name}, {backend.dtype_name}",
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
) -> dict[str, Any]:
    """Evaluate the trained network, write its files into `folder`, print the table; return the metrics."""
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
    theta = backend.to_numpy(state.theta)
    model = Model(mlp, theta, dataset.classes, dataset.picture, dataset.scaling, parts.target_scaling)
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
    if per_class:
        metrics[f"{predictions.part}_per_class"] = per_class
    metrics |= {
        "options": asdict(options),
        "xpnet_version": xpnet.__version__,
        "versions": _versions(backend),
    }
    _write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    if not options.quiet:
        table = class_table(predictions.part, per_class) if 0 < len(per_class) <= MOST_CLASSES else ""
        _print_table(results, score, table, state, folder)
    if find_spec("matplotlib") is not None:
        _save_pictures(folder, options, dataset, mlp, state, history, predictions, backend)
    elif not options.quiet:
        print(f"No pictures: matplotlib is missing. To install it: {INSTALL_PLOT}")
    return metrics


def _save_pictures(
    folder: Path,
    options: Options,
    dataset: Dataset,
    mlp: MLP,
    state: TrainState,
    history: list[dict[str, float]],
    predictions: Predictions,
    backend: Backend,
) -> None:
    from xpnet import plots

    part = "training" if predictions.part == "train" else predictions.part
    X, y, predicted = predictions.X, predictions.y, predictions.predicted
    classes, picture, figures = dataset.classes, dataset.picture, {}
    if history:
        kept = state.best.epoch if options.keeps_best and state.best is not None else None
        extras = {"label smoothing": options.label_smoothing, "L2 penalty": options.l2}
        includes = [name for name, value in extras.items() if value]
        figures["curves"] = plots.curves(history, kept=kept, loss_includes=includes)
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


def _print_table(
    results: dict[str, Evaluation], score: str, per_class: str, state: TrainState, folder: Path
) -> None:
    names = list(results)
    print()
    print(" " * 10 + "".join(f"{name:>12}" for name in names))
    print(f"{'loss':<10}" + "".join(f"{_loss(results[name].loss):>12}" for name in names))
    print(f"{score:<10}" + "".join(f"{_percent(results[name].score, score):>12}" for name in names))
    if per_class:
        print(f"\n{per_class}")
    print(f"\n{state.epoch} epochs, {state.step} steps in {state.seconds:.1f} s; all of it in {folder}")
    print(f"To use it: python scripts/predict.py {shlex.quote(str(folder))} FILE...")


def _loss(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def _percent(value: float, score: str) -> str:
    return f"{100 * value:.2f} %" if score == "accuracy" else f"{value:.4f}"


def _versions(backend: Backend) -> dict[str, str | None]:
    names = ("numpy", "array-api-compat", "scikit-learn", "safetensors")
    versions = {"python": platform.python_version(), **{name: version(name) for name in names}}
    return versions | {backend.name: LIBRARIES[backend.name].version()}
