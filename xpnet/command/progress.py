"""The progress of a run: a bar on a terminal or in a notebook, a few plain lines in a file or pipe."""

import sys
import time
from typing import Any

from xpnet.command.formats import format_loss, format_score
from xpnet.command.options import Options
from xpnet.training import TrainState
from xpnet.training.loop import Epoch

__all__ = ["Progress"]

# From the widest to the narrowest: what is needed least is left out first, the loss and the score never.
BARS = (
    "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {rate_fmt}{postfix}",
    "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    "{desc} |{bar}|{postfix}",
    "{desc}{postfix}",
)
DEFAULT_BAR = 10  # columns that tqdm gives a bar where it does not know the width of the terminal
SHORTEST_BAR = 3
MOST_LINES = 20


class Progress:
    """Shows how far training is, on stderr.

    On a terminal or in a notebook: a bar over the rows of all epochs. Elsewhere, as in a log file: a line
    after each epoch, or after every second, third ... of more than 20. With --quiet: nothing.
    """

    def __init__(self, options: Options, n: int, state: TrainState) -> None:
        self.n, self.batch_size, self.n_epochs = n, options.batch_size or n, options.epochs
        self.score = ""
        self.last_line, self.pending = state.epoch, ""
        self.time_of_loss = time.monotonic()
        self.bar = None if options.quiet else _make_bar(self.n_epochs * n, self._count_rows(state))
        self.prints_lines = not options.quiet and self.bar is None
        self._redraw(min(state.epoch + 1, self.n_epochs), "")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        self._print_pending()

    def advance(self, state: TrainState) -> None:
        """Count the rows of the step that was taken; show the running loss once a second."""
        if self.bar is None:
            return
        self.bar.update(self._count_rows(state) - self.bar.n)
        # Reading the loss waits for the device: once a second costs nothing.
        if time.monotonic() > self.time_of_loss + 1.0:
            loss = float(state.loss_sum) / min(state.batch * self.batch_size, self.n)
            self._redraw(state.epoch + 1, f"loss {format_loss(loss)}")

    def show(self, record: Epoch, score: str, train_score: float) -> None:
        """Show the loss and the score of an epoch that is finished: on validation data if there is any."""
        if record.validation is None:
            self.score = f", training {score} {format_score(train_score, score)}"
        else:
            self.score = f", validation {score} {format_score(record.validation.score, score)}"
        loss = f"loss {format_loss(record.train_loss)}"
        self._redraw(record.epoch, loss)
        if self.prints_lines:
            self.pending = f"epoch {record.epoch}/{self.n_epochs}: {record.seconds:.1f} s, {loss}{self.score}"
            # The last line is printed at the end, wherever training stops.
            if record.epoch >= self.last_line + -(-self.n_epochs // MOST_LINES):
                self.last_line = record.epoch
                self._print_pending()

    def _count_rows(self, state: TrainState) -> int:
        return state.epoch * self.n + min(state.batch * self.batch_size, self.n)

    def _redraw(self, epoch: int, loss: str) -> None:
        self.time_of_loss = time.monotonic()
        if self.bar is None:
            return
        self.bar.set_description_str(f"epoch {epoch}/{self.n_epochs}", refresh=False)
        self.bar.set_postfix_str(loss + self.score, refresh=False)
        shown = self.bar.format_dict
        for bar_format in BARS:
            self.bar.bar_format = bar_format
            line = self.bar.format_meter(**shown | {"bar_format": bar_format, "ncols": None})
            if shown["ncols"] is None or len(line) - DEFAULT_BAR + SHORTEST_BAR <= shown["ncols"]:
                break
        self.bar.refresh()

    def _print_pending(self) -> None:
        if self.pending:
            print(self.pending, file=sys.stderr, flush=True)
            self.pending = ""


def _make_bar(total: int, initial: int) -> Any:
    """Return a bar, or None where the lines of a bar would pile up, as in a file."""
    from tqdm.auto import tqdm  # takes 30 ms

    in_notebook = any("notebook" in base.__module__ for base in tqdm.__mro__)
    if not in_notebook and not sys.stderr.isatty():
        return None
    return tqdm(
        total=total, initial=initial, unit=" rows", unit_scale=True, dynamic_ncols=True, bar_format=BARS[0]
    )
