"""The progress of a run: a bar that fits the terminal, plain lines in a file, nothing with --quiet."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from xpnet.command.options import Options
from xpnet.command.progress import Progress
from xpnet.training import TrainState
from xpnet.training.loop import Epoch
from xpnet.training.scores import Evaluation

REPOSITORY = Path(__file__).parents[2]


class Terminal(io.StringIO):
    """A file that has the size of a pseudo-terminal, and keeps what is written to it."""

    encoding = "utf-8"

    def __init__(self, descriptor):
        super().__init__()
        self.fileno = lambda: descriptor

    def isatty(self):
        return True


def resize(descriptor, columns):
    import fcntl
    import termios

    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes stderr a terminal with so many columns."""
    pty = pytest.importorskip("pty", reason="only Unix has pseudo-terminals")
    ends = pty.openpty()

    def terminal(columns):
        resize(ends[1], columns)
        monkeypatch.setattr(sys, "stderr", Terminal(ends[1]))
        return sys.stderr

    yield terminal
    for end in ends:
        os.close(end)


def run(n_epochs, *, stop=None, score="accuracy", value=1.0, validates=True, **options):
    """Show the progress of a run of 1,000 rows in batches of 100, stopped after the epoch `stop`."""
    state = TrainState(np.zeros(1), (), np.array(0.0))
    with Progress(Options(epochs=n_epochs, batch_size=100, **options), 1000, state) as progress:
        for epoch in range(1, (stop or n_epochs) + 1):
            for batch in range(1, 11):
                state.batch = batch
                progress.advance(state)
            state.epoch, state.batch = epoch, 0
            evaluation = Evaluation(1.0, value) if validates else None
            record = Epoch(epoch, 10 * epoch, 0.5 / epoch, 0.1, 2.0 * epoch, 500.0, evaluation)
            progress.show(record, score, 0.25)


@pytest.fixture
def small(here):
    """A table in `small.npz`, whose test rows spare the import of scikit-learn, in the current folder."""
    y = np.arange(40) % 2
    X = y[:, None] + 0.0
    np.savez(here / "small.npz", X=X, y=y, X_test=X, y_test=y)
    return here


def frames(text):
    return [frame for frame in re.split(r"[\r\n]+", text) if frame]


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("n_epochs", [3, 50, 1000])
@pytest.mark.parametrize(("score", "value", "shown"), [("accuracy", 1.0, "100.00 %"), ("r2", 0.5, "0.5000")])
def test_the_bar_shrinks_and_the_numbers_stay(terminal, columns, n_epochs, score, value, shown):
    screen = terminal(columns)
    run(n_epochs, score=score, value=value)
    *_, last = frames(screen.getvalue())
    assert all(len(frame) <= columns for frame in frames(screen.getvalue()))
    assert re.match(f"epoch {n_epochs}/{n_epochs}[ ,]", last)
    assert last.endswith(f", loss {0.5 / n_epochs:.4f}, validation {score} {shown}")
    assert "100%" in last or columns <= 80
    assert "rows/s" in last or columns < 100
    assert last.count("█") >= 3 or columns < 80


def test_a_run_on_a_real_terminal(small):
    pty = pytest.importorskip("pty", reason="only Unix has pseudo-terminals")
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from xpnet.command.cli import main\n"
        "sys.exit(main('train --device cpu --data small.npz --epochs 3 --out run'.split()))"
    )
    fd, terminal = pty.openpty()
    resize(terminal, 80)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"},
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            piece = os.read(fd, 1 << 16)
        except OSError:  # so Linux ends
            break
        if not piece:
            break
        output += piece
    os.close(fd)
    assert process.wait() == 0, output
    shown = [frame for frame in frames(output.decode()) if frame.startswith("epoch ")]
    assert len(shown) > 3
    assert max(map(len, shown)) <= 80
    record = json.loads((small / "run" / "history.jsonl").read_text().splitlines()[-1])
    accuracy = f"{100 * record['validation_accuracy']:.2f} %"
    assert shown[-1].startswith("epoch 3/3")
    assert shown[-1].endswith(f", loss {record['train_loss']:.4f}, validation accuracy {accuracy}")


@pytest.mark.parametrize(
    ("n_epochs", "stop", "expected"),
    [
        (1, None, [1]),
        (4, None, [1, 2, 3, 4]),
        (20, None, range(1, 21)),
        (50, None, [*range(3, 49, 3), 50]),
        (50, 7, [3, 6, 7]),  # stopped early
        (1000, None, range(50, 1001, 50)),
    ],
)
def test_a_file_gets_at_most_some_20_plain_lines(capsys, n_epochs, stop, expected):
    run(n_epochs, stop=stop)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    assert err.splitlines() == [
        f"epoch {epoch}/{n_epochs}: {2 * epoch:.1f} s, loss {0.5 / epoch:.4f}, validation accuracy 100.00 %"
        for epoch in expected
    ]
    assert len(err.splitlines()) <= 21


def test_lines_go_on_where_a_run_is_resumed(train, small):
    assert train("--data small.npz --epochs 2 --out run").err.count("epoch ") == 2
    assert re.findall(r"epoch (\d+)/4", train("--resume run --epochs 4").err) == ["3", "4"]


def test_a_notebook_shows_its_own_bar(capsys, monkeypatch):
    # ipykernel's stderr is no terminal. Its widgets are stood in for by a class in their module.
    std = pytest.importorskip("tqdm.std")
    shown = []

    class Widget(std.tqdm):
        __module__ = "tqdm.notebook"

        def display(self, *_, **__):
            shown.append(self.postfix)

    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Widget))
    run(3)
    assert shown[-1] == "loss 0.1667, validation accuracy 100.00 %"
    assert "epoch 1/3:" not in capsys.readouterr().err


def test_quiet_is_quiet_on_a_terminal_too(terminal, capsys):
    screen = terminal(80)
    run(3, quiet=True)
    assert screen.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_without_validation_data_the_training_score_is_shown(capsys):
    run(2, validates=False)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/2: 2.0 s, loss 0.5000, training accuracy 25.00 %",
        "epoch 2/2: 4.0 s, loss 0.2500, training accuracy 25.00 %",
    ]
