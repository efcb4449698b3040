"""One training run: from options to a folder with the model, its history and its metrics.

A run folder holds `model.safetensors`, `history.jsonl` (a record per epoch), `metrics.json`,
`checkpoint.safetensors` for `--resume`, and pictures if matplotlib is installed. While a process trains the
run, `run.lock` contains its process id.
"""

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet.backends import Backend
from xpnet.command.article import Article
from xpnet.command.folder import lock_folder, make_folder
from xpnet.command.formats import format_count
from xpnet.command.options import Options
from xpnet.command.parts import Parts, hash_data, hold_out_rows, make_network, place_data, resolve_usable
from xpnet.command.progress import Progress
from xpnet.command.recipes import Recipe
from xpnet.command.report import History, introduce, make_model, write_results
from xpnet.command.resume import (
    check_history,
    check_same,
    check_state,
    format_resume,
    is_finished,
    print_finished,
)
from xpnet.data.batches import shuffle
from xpnet.data.dataset import Dataset
from xpnet.data.loading import load
from xpnet.errors import DivergenceError, InputError, OutOfMemoryError
from xpnet.maths.losses import LOSSES
from xpnet.maths.mlp import MLP
from xpnet.training import (
    TrainState,
    epochs,
    evaluate,
    keep_best,
    restore_best,
    start,
    stop_early,
    validate,
)
from xpnet.training.checkpoint import load_state, save_state
from xpnet.training.loop import WHOLE_ROWS, Epoch
from xpnet.training.memory import estimate_memory, explain_shortage
from xpnet.training.model import describe
from xpnet.training.scores import count_chunk_rows

__all__ = ["Interrupted", "train"]


class Interrupted(Exception):  # noqa: N818 (not an error)
    """Ctrl-C: the run was saved. The message says how to resume it."""


def train(options: Options, resume: Path | None = None, recipe: Recipe | None = None) -> bool:
    """Train with these options, or resume the run in the folder `resume`.

    With a recipe the run ends with a table of the article's results beside its own. Returns whether they
    agree.

    Raises:
        InputError: the options do not fit the data or the backend, or the run in `resume`.
        BackendError: no library can compute on the device.
        DivergenceError: the loss is no longer finite.
        Interrupted: after Ctrl-C, once the run is saved.
        OutOfMemoryError: the device does not have enough memory.
    """
    began = time.monotonic()
    with _collect_notices() as notices:
        backend = resolve_usable(options.device, options.backend, options.dtype)
    if options.threads is not None and backend.name != "numpy":
        raise InputError(f"--threads works with the backend numpy only, this run uses {backend.name}")
    dataset = load(
        options.data,
        target=options.target,
        data_dir=options.data_dir,
        seed=options.seed,
        test=options.test,
        numeric_targets=not LOSSES[options.loss].classifies,
        quiet=options.quiet,
    )
    mlp = make_network(options, dataset)
    kept, held = hold_out_rows(dataset, options)
    options = _clip_batch(options, kept.size)
    optimizer = options.make_optimizer()
    n_batches = -(-kept.size // (options.batch_size or kept.size))
    schedule = options.make_schedule(options.epochs * n_batches)
    about: dict[str, Any] = {
        "options": asdict(options) | {"out": None},
        "data_sha256": hash_data(dataset),
        "sizes": list(mlp.sizes),
        "recipe": None if recipe is None else recipe.name,
        "xpnet_version": xpnet.__version__,
    }
    free = backend.count_free_bytes()
    try:
        parts = place_data(dataset, kept, held, mlp, backend)
        files: dict[str, bytes] = {}
        if resume is None:  # before there is a folder
            state = start(mlp.init(options.seed, options.init), optimizer, backend=backend)
        with _hold_folder(options, resume, dataset.name) as folder:
            if resume is not None:
                state, saved = load_state(folder / "checkpoint.safetensors", backend=backend)
                check_same(saved, about)
                check_state(state, mlp, optimizer, n_batches)
                if is_finished(folder, state, options):
                    if not options.quiet:
                        print_finished(folder, state, options)
                    return True
                files = saved.get("files", {})
                check_history(files, state)
                # Until the run ends, its checkpoint predicts.
                (folder / "model.safetensors").unlink(missing_ok=True)
            about["model"] = describe(make_model(dataset, mlp, backend.to_numpy(state.theta), parts))
            history = History(folder / "history.jsonl", files.get("history.jsonl", b""))
            article = Article(recipe, folder, files.get("printed.jsonl", b"")) if recipe else None
            score = "accuracy" if mlp.classifies else "r2"
            introduce(options, mlp, dataset, parts, backend, notices)

            def save() -> None:
                about["files"] = {"history.jsonl": history.content}
                if article and article.lines:
                    about["files"]["printed.jsonl"] = article.lines.content
                save_state(folder / "checkpoint.safetensors", state, about, backend=backend)

            if article:
                article.record(state, mlp, parts, backend)
            if resume is None:
                save()
            sample = parts.sample
            with _defer_interrupts() as interrupted, Progress(options, kept.size, state) as progress:

                def after_step(state: TrainState) -> None:
                    with backend.as_current():
                        progress.advance(state)
                    if article:
                        article.record(state, mlp, parts, backend)
                    if options.checkpoint_every and state.step % options.checkpoint_every == 0:
                        save()
                    if interrupted():
                        save()
                        raise Interrupted(
                            f"Stopped in epoch {state.epoch + 1:,} at step {state.step:,}. To resume:\n"
                            f"  {format_resume(folder)}"
                        )

                records = epochs(
                    mlp,
                    optimizer,
                    state,
                    *parts.train,
                    backend=backend,
                    schedule=schedule,
                    n_epochs=options.epochs,
                    batch_size=options.batch_size,
                    order=partial(shuffle, seed=options.seed),
                    clip_norm=options.clip_norm,
                    after_step=after_step,
                    steps_at_once=_count_steps_at_once(options, backend) if article is None else 1,
                )
                records = _watch(records, options, mlp, state, parts, backend)
                for record in records:
                    train_score = evaluate(mlp, state.theta, *sample, backend=backend).score
                    history.append(record.to_dict(score) | {f"train_{score}": train_score})
                    progress.show(record, score, train_score)
                    save()
            best_epoch = None if state.best is None else state.best.epoch
            if options.keeps_best:
                restore_best(state)
            metrics = write_results(
                folder,
                options,
                dataset,
                mlp,
                state,
                best_epoch,
                parts,
                history.records,
                score,
                backend,
                began,
            )
            return article.compare(metrics, quiet=options.quiet) if article else True
    except DivergenceError as error:
        raise DivergenceError(
            f"{error}. The last finite state is in {folder / 'checkpoint.safetensors'}"
        ) from None
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
        # The error is not chained: its traceback would keep arrays alive.
        shortage = _explain_shortage(mlp, optimizer, dataset, options, backend, free, error)
    raise OutOfMemoryError(shortage)


def _count_steps_at_once(options: Options, backend: Backend) -> int:
    """Return the number of steps between two looks at Ctrl-C, the progress bar and `--checkpoint-every`."""
    return (options.checkpoint_every or 64) if backend.is_slow_stepwise else 1


def _watch(
    records: Iterator[Epoch], options: Options, mlp: MLP, state: TrainState, parts: Parts, backend: Backend
) -> Iterator[Epoch]:
    """Return the records with validation and early stopping as the options ask for them."""
    if parts.validation is not None:
        validation = parts.validation
        records = validate(records, state, lambda: evaluate(mlp, state.theta, *validation, backend=backend))
    if options.keeps_best or options.patience is not None:
        records = keep_best(records, state, backend=backend)
    if options.patience is not None:
        records = stop_early(records, state, patience=options.patience)
    return records


@contextlib.contextmanager
def _collect_notices() -> Iterator[list[str]]:
    """Collect what is logged as a list of messages, to be printed once the data is loaded."""
    notices: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notices.append(record.getMessage())

    logger, collector = logging.getLogger("xpnet"), Collector()
    before = logger.level, logger.propagate
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield notices
    finally:
        logger.removeHandler(collector)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _clip_batch(options: Options, n: int) -> Options:
    if options.batch_size is None or options.batch_size <= n:
        return options
    rows = format_count(n, "training row")
    print(f"warning: --batch-size {options.batch_size} exceeds the {rows}; using {n}", file=sys.stderr)
    return replace(options, batch_size=n)


@contextlib.contextmanager
def _hold_folder(options: Options, resume: Path | None, data: str) -> Iterator[Path]:
    """Make and lock the folder of a new run. That of a run to resume is locked already."""
    if resume is not None:
        yield resume
        return
    folder = make_folder(options.out, data)
    with lock_folder(folder):
        if (folder / "checkpoint.safetensors").exists():
            raise InputError(
                f"--out {folder} already holds a run. "
                f"Resume it with --resume {folder}, or choose another folder"
            )
        yield folder


@contextlib.contextmanager
def _defer_interrupts() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C set a flag, so that the current step is finished. A second Ctrl-C stops at once.

    SIGINT that is ignored, as in a background job of a shell script, stays ignored.
    """
    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()  # only it may handle signals
    if before is signal.SIG_IGN or not is_main:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _explain_shortage(
    mlp: MLP,
    optimizer: Any,
    dataset: Dataset,
    options: Options,
    backend: Backend,
    free: int | None,
    error: Exception,
) -> str:
    rows = options.batch_size or min(WHOLE_ROWS, len(dataset.X_train))
    needs = estimate_memory(
        mlp.sizes,
        n_values=dataset.X_train.size + dataset.X_test.size,
        n_moments=len(optimizer.init(np.zeros(1), xp=np)),
        rows=max(rows, count_chunk_rows(mlp.sizes, backend)),  # the scores are computed in chunks
        dtype_name=backend.dtype_name,
    )
    return explain_shortage(
        "the run",
        needs,
        free,
        backend=backend,
        fewer_rows="fewer rows" if backend.dtype_name == "float32" else "fewer rows, or --dtype float32",
        smaller=f"--batch-size {max(1, rows // 4)}, or fewer --hidden units",
        reason=f"{type(error).__name__}: {error}",
    )
