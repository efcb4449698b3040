"""`xpnet predict`: pictures and rows in, classes or numbers out."""

import argparse
import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import resolve
from xpnet.command.formats import escape, format_message
from xpnet.command.parts import resolve_usable
from xpnet.data.columns import Columns
from xpnet.data.loading import TEXT_FILES
from xpnet.data.pictures import SUFFIXES, read_picture
from xpnet.data.raw import check_numbers
from xpnet.data.table import read_rows
from xpnet.errors import InputError
from xpnet.training.files import replace_file, replacing
from xpnet.training.model import Model, load_model
from xpnet.training.scores import PlacedRows, predict

__all__ = ["open_model", "predict_files", "warn"]

ROW_FILES = (".npy", ".npz", *TEXT_FILES)

# Where the most probable class has less than this, a picture shows none of the classes clearly. Of MNIST's
# test digits that are thin, thick or turned by up to 25 degrees, 0.2 % stay below it (784-100-10 network).
SURE = 0.4


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model predicts for a picture or a row.

    Attributes:
        row: counted from 0, None for a picture.
        values: (outputs,) numbers, or (n_classes,) probabilities.
        best: the most probable classes with their probabilities, None for numbers.
        doubt: why the prediction of a picture is unsure, None if it is not.
    """

    file: str
    row: int | None
    values: NDArray[Any]
    best: list[tuple[Any, Any]] | None
    doubt: str | None


def predict_files(arguments: argparse.Namespace) -> int:
    """Predict the class of each picture, or of each row of a .npy, .npz, .csv or .tsv file.

    A network trained on numbers predicts numbers. A folder stands for the pictures in it. Unusable files are
    reported and skipped.
    """
    model = open_model(arguments.model)
    if arguments.save_prepared is not None and model.picture is None:
        raise InputError(f"--save-prepared: {arguments.model} was not trained on pictures")
    device = arguments.device or ("cpu" if arguments.backend is None else "auto")
    backend = resolve_usable(device, arguments.backend, str(model.theta.dtype))
    theta = backend.asarray(model.theta)
    host = resolve("cpu", "numpy", backend.dtype_name)
    folder = None if arguments.save_prepared is None else PreparedPictures(Path(arguments.save_prepared))
    status = 0
    with contextlib.ExitStack() as stack:
        out = sys.stdout
        if arguments.output is not None:
            out = stack.enter_context(_replace_text(Path(arguments.output)))
        write = _make_writer(arguments, model, out)
        for file in _expand(arguments.files):
            try:
                with np.errstate(all="ignore"):  # numbers that overflow are found below
                    X, doubt = _read_inputs(file, model, folder)
                    answers = predict(model.mlp, theta, PlacedRows(X, host, backend), backend=backend)
                    if model.target_scaling is not None:
                        answers = model.target_scaling.undo(answers)
                check_numbers(f"{file}: prediction", answers)
            except InputError as error:
                print(f"error: {format_message(error)}", file=sys.stderr)
                status = 1
                continue
            is_row = file.lower().endswith(ROW_FILES)
            for row, values in enumerate(answers):
                best = None if model.classes is None else _rank(values, model.classes, arguments.top)
                if not is_row and doubt is None and best is not None and best[0][1] < SURE:
                    doubt = f"no class has a probability of {100 * SURE:.0f} %"
                write(Prediction(file, row if is_row else None, values, best, doubt))
    return status


@contextlib.contextmanager
def _replace_text(path: Path) -> Iterator[TextIO]:
    """Open a file for writing text. It takes the place of an earlier one when the block ends."""
    is_special = path.exists() and not path.is_file()  # a pipe or a device cannot be replaced
    with open(path, "wb") if is_special else replacing(path.resolve() if path.is_symlink() else path) as file:
        out = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        yield out
        out.detach()


def open_model(path: str) -> Model:
    """Return the model of a run or a file, with a warning if the run is unfinished."""
    model = load_model(Path(path))
    if model.unfinished is not None:
        done, planned = model.unfinished
        warn(f"{path}: unfinished run, {done:,} of {planned:,} epochs: taking its checkpoint")
    return model


def warn(text: str) -> None:
    """Print a warning."""
    print(f"warning: {format_message(text)}", file=sys.stderr)


def _expand(files: list[str]) -> Iterator[str]:
    """Yield the files, and for a folder the pictures in it, in order of their names."""
    for file in files:
        if not Path(file).is_dir():
            yield file
            continue
        pictures = sorted(
            path
            for path in Path(file).iterdir()
            if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
        )
        yield from map(str, pictures) if pictures else [file]


class PreparedPictures:
    """A folder of pictures as the network gets them: PNG files named after those they were made of."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.names: set[str] = set()

    def save(self, file: str, pixels: NDArray[Any]) -> None:
        from PIL import Image

        stem, n = Path(file).stem, 1
        name = f"{stem}.png"
        while name in self.names:  # of another folder, or with another ending
            n += 1
            name = f"{stem}-{n}.png"
        self.names.add(name)
        png = io.BytesIO()
        Image.fromarray(pixels.round().astype(np.uint8)).save(png, "PNG")
        replace_file(self.folder / name, png.getvalue())


def _read_inputs(file: str, model: Model, folder: PreparedPictures | None) -> tuple[NDArray[Any], str | None]:
    """Return the network's inputs (n, features), and why a picture is unsure."""
    dtype = str(model.theta.dtype)
    n_features = model.mlp.sizes[0]
    if file.lower().endswith(ROW_FILES):
        columns = None if model.columns is None else Columns.from_dict(model.columns)
        X, notes = read_rows(file, n_features, columns)
        for note in notes:
            warn(f"{file}: {note}")
        if model.scaling is None:
            return X.astype(dtype), None
        if problem := model.scaling.find_problem(X):
            warn(f"{file}: {problem}")
        return model.scaling(X, dtype), None
    if Path(file).is_dir():
        raise InputError(f"{file}: expected pictures in this folder ({', '.join(SUFFIXES)}), found none")
    if model.picture is None:
        raise InputError(
            f"{file}: the model was trained on rows of {n_features} numbers, not on pictures: "
            f"give it a file that ends in {', '.join(ROW_FILES)}"
        )
    pixels, doubt = read_picture(file, model.picture)
    if folder is not None:
        folder.save(file, pixels.reshape(model.picture))
    # Pictures were scaled to 0 ... 1 for training, whatever range their files had.
    return (pixels / 255.0).astype(dtype)[np.newaxis], doubt


def _make_writer(arguments: argparse.Namespace, model: Model, out: TextIO) -> Callable[[Prediction], None]:
    """Return what writes a prediction: as a line of text, a JSON object on a line, or a row of CSV."""
    if arguments.json:
        is_ascii = not (out.encoding or "utf-8").lower().startswith("utf")
        return lambda prediction: print(
            escape(json.dumps(_to_record(prediction), ensure_ascii=is_ascii)), file=out
        )
    if not arguments.csv:
        return lambda prediction: print(escape(_to_text(prediction)), file=out)
    if model.classes is None:
        names = [f"value_{k + 1}" for k in range(model.mlp.sizes[-1])]
    else:
        n = min(arguments.top, len(model.classes))
        names = [f"{name}_{k + 1}" for k in range(n) for name in ("class", "probability")] + ["unsure"]
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["file", "row", *names])
    if not out.isatty():  # a program that reads the table gets names as they are
        return lambda prediction: table.writerow(_to_cells(prediction))
    return lambda prediction: table.writerow(
        [escape(cell) if isinstance(cell, str) else cell for cell in _to_cells(prediction)]
    )


def _to_text(prediction: Prediction) -> str:
    name = prediction.file if prediction.row is None else f"{prediction.file}[{prediction.row}]"
    if prediction.best is None:
        return f"{name}: " + "  ".join(f"{value:.6g}" for value in prediction.values)
    doubt = "" if prediction.doubt is None else f"unsure ({prediction.doubt}): "
    return f"{name}: {doubt}" + "   ".join(f"{label} {100 * p:.2f} %" for label, p in prediction.best)


def _to_record(prediction: Prediction) -> dict[str, Any]:
    record: dict[str, Any] = {"file": prediction.file, "row": prediction.row}
    if prediction.best is None:
        return record | {"values": prediction.values.tolist()}
    best = [{"class": label, "probability": float(str(p))} for label, p in prediction.best]
    return record | {"classes": best, "unsure": prediction.doubt}


def _to_cells(prediction: Prediction) -> list[Any]:
    start: list[Any] = [prediction.file, "" if prediction.row is None else prediction.row]
    if prediction.best is None:
        return [*start, *prediction.values.tolist()]
    return [*start, *(cell for pair in prediction.best for cell in pair), prediction.doubt]


def _rank(values: NDArray[Any], classes: NDArray[Any], top: int) -> list[tuple[Any, Any]]:
    """Return the most probable classes, each with its probability."""
    labels = classes.tolist()
    order = np.argsort(-values[: len(labels)], kind="stable")[:top]
    return [(labels[k], values[k]) for k in order]
