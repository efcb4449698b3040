"""`--help` of each command, and hints that name the command as the user typed it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet.command.cli import main

REPOSITORY = Path(__file__).parents[2]
PYTHON = Path(sys.executable).name

# What installing the package writes into the folder bin.
ENTRY_POINT = "import sys\nfrom xpnet.command.cli import main\nsys.exit(main())\n"

# (sys.argv[0], command) and how the user typed it.
TYPED = {
    ("scripts/train.py", "train"): f"{PYTHON} scripts/train.py",
    ("../my clone/scripts/train.py", "train"): f"{PYTHON} '../my clone/scripts/train.py'",
    ("predict.py", "predict"): f"{PYTHON} predict.py",
    ("/somewhere/xpnet/__main__.py", "train"): f"{PYTHON} -m xpnet train",
    ("/somewhere/xpnet/__main__.py", "predict"): f"{PYTHON} -m xpnet predict",
    ("scripts/export.py", "export"): f"{PYTHON} scripts/export.py",
    ("/somewhere/xpnet/__main__.py", "export"): f"{PYTHON} -m xpnet export",
    ("/somewhere/xpnet/__main__.py", "info"): f"{PYTHON} -m xpnet info",
    ("/usr/bin/xpnet", "train"): "xpnet train",
    ("/usr/bin/xpnet", "predict"): "xpnet predict",
    ("xpnet", "export"): "xpnet export",
    ("xpnet", "info"): "xpnet info",
    ("/somewhere/pytest/__main__.py", "train"): "xpnet train",
}


def show_help(*words):
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--help"])


@pytest.mark.parametrize(("program", "command"), TYPED)
def test_help_of_each_command(capsys, monkeypatch, program, command):
    monkeypatch.setattr(sys, "argv", [program])
    show_help(command)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: {TYPED[program, command]} [--help]")
    assert "show this help message" in out
    assert "%(" not in out


@pytest.mark.parametrize(
    ("program", "typed"),
    [("/somewhere/xpnet/__main__.py", f"{PYTHON} -m xpnet"), ("/usr/bin/xpnet", "xpnet")],
)
def test_help_lists_the_commands(capsys, monkeypatch, program, typed):
    monkeypatch.setattr(sys, "argv", [program])
    show_help()
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {typed} [--help] ")
    for command in ("train", "predict", "export", "info"):
        assert f"\n    {command} " in out


@pytest.mark.parametrize(
    "way", ["scripts/train.py", "scripts/predict.py", "scripts/export.py", "-m", "entry point"]
)
def test_help_by_each_way_to_start(tmp_path, way):
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("bench*"))
    (tmp_path / "xpnet-bin").mkdir()
    (tmp_path / "xpnet-bin" / "xpnet").write_text(ENTRY_POINT)
    words, typed = {
        "-m": (["-m", "xpnet", "train"], f"{PYTHON} -m xpnet train"),
        "entry point": (["xpnet-bin/xpnet", "train"], "xpnet train"),
    }.get(way, ([way], f"{PYTHON} {way}"))
    done = subprocess.run(
        [sys.executable, *words, "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=600,  # a guard: a busy machine is slow
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {typed} [--help] ")


@pytest.mark.parametrize("program", ["/somewhere/xpnet/__main__.py", "../scripts/train.py", "xpnet"])
def test_hints_name_the_command_as_typed(train, here, monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program])
    y = np.arange(40) % 2
    np.savez(here / "small.npz", X=y[:, None] + 0.0, y=y)
    typed = {"xpnet": "xpnet predict", "../scripts/train.py": f"{PYTHON} ../scripts/predict.py"}
    result = train("--data small.npz --epochs 1 --out run")
    assert f"  {typed.get(program, f'{PYTHON} -m xpnet predict')} run FILE...\n" in result.out
    typed = {"xpnet": "xpnet train", "../scripts/train.py": f"{PYTHON} ../scripts/train.py"}
    result = train("--resume run")
    assert f"  {typed.get(program, f'{PYTHON} -m xpnet train')} --resume run --epochs 2\n" in result.out
