"""The command line of the benchmark."""

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from benchmarks import machine, positive
from benchmarks.peers import find_backends
from xpnet.errors import BackendError, InputError

DESCRIPTION = "Compare the speed, accuracy and memory of xpnet with those of other libraries."
SUBCOMMANDS = ("step", "accuracy", "predict", "startup", "scaling")


def main(argv):
    """Run a subcommand; return 0, or 1 if a contestant is disqualified, or 2 if it cannot be run."""
    modules = {name: import_module(f"benchmarks.{name}") for name in SUBCOMMANDS}
    arguments = make_parser(modules).parse_args(argv)
    module = modules[arguments.subcommand]
    try:
        check_outputs(arguments)
        arguments.backends, arguments.skipped = find_backends(arguments.device, arguments.backend)
        arguments.device = arguments.backends[0].device_name
        head = machine.describe(argv, arguments.backends)
        result = {"subcommand": arguments.subcommand, **head, **module.run(arguments)}
    except (BackendError, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    print(format_report(module, result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.figure:
        module.draw(result, arguments.figure)
    return 1 if result.get("disqualified") else 0


def make_parser(modules):
    parser = argparse.ArgumentParser(prog="benchmark.py", description=DESCRIPTION)
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, module in modules.items():
        # A help text is a format string for argparse, a description is not.
        sub = subparsers.add_parser(name, help=module.HELP.replace("%", "%%"), description=module.HELP)
        add_common_arguments(sub, module)
        module.add_arguments(sub)
    return parser


def add_common_arguments(parser, module):
    parser.add_argument(
        "--device", default="auto", metavar="cpu|cuda|auto", help="device to run on (default: auto)"
    )
    parser.add_argument(
        "--backend",
        action="extend",
        type=split_names,
        default=[],
        metavar="NAME,...",
        help="libraries to run xpnet on (default: all usable ones)",
    )
    parser.add_argument(
        "--peers",
        type=split_names,
        default="all",
        metavar="NAME,...",
        help=f"libraries to compare with: {', '.join(module.PEERS)}; all or none (default: %(default)s)",
    )
    parser.add_argument("--repeats", type=positive, metavar="N", help=module.REPEATS_HELP)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to FILE as JSON")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the result to FILE as PNG")
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder of the four MNIST files (default: xpnet's cache, or random data if they are not there)",
    )


def split_names(text):
    return [name.strip() for name in text.split(",") if name.strip()]


def check_outputs(arguments):
    """Raise InputError if the result could not be written, before minutes of measuring."""
    for option, path in (("--json", arguments.json), ("--figure", arguments.figure)):
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise InputError(f"{option}: {path} cannot be written; name a file in an existing folder")
    if arguments.figure:
        from benchmarks import figures

        figures.check_matplotlib()


def format_report(module, result):
    """Return what is printed: the machine, the tables, and who is skipped or disqualified."""
    lines = [machine.format_head(result), "", module.format_tables(result)]
    lines += [f"skipped: {name} ({why})" for name, why in result.get("skipped", {}).items()]
    lines += [f"DISQUALIFIED: {who}" for who in result.get("disqualified", [])]
    return "\n".join(lines)
