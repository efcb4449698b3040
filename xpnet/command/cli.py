"""The command line: `xpnet train`, `xpnet predict`, `xpnet export`, `xpnet info`.

Exit status: 0 done; 1 the run or a file failed, or the output cannot be written; 2 unusable arguments, data
or paths; 130 stopped by Ctrl-C.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from errno import EACCES, EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EROFS
from typing import NoReturn

import numpy as np

import xpnet
from xpnet.backends import LIBRARIES
from xpnet.command.arguments import (
    OPTIONS,
    add_export_arguments,
    add_predict_arguments,
    add_train_arguments,
)
from xpnet.command.export import export_model
from xpnet.command.formats import escape, format_command, format_message
from xpnet.command.options import Options
from xpnet.command.output import discard_output, guard_streams, tolerate_errors
from xpnet.command.predict import predict_files
from xpnet.command.recipes import load_recipe, recipe_names
from xpnet.errors import (
    BackendError,
    DivergenceError,
    InputError,
    OutOfMemoryError,
    choose,
    find_nearest,
)

__all__ = ["main"]

# Of a path that was given: no permission, too long a name, a file where a folder is expected ...
UNUSABLE = (EACCES, EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EROFS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    with guard_streams():
        return _run(sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str]) -> int:
    from xpnet.command.run import Interrupted

    try:
        try:
            arguments = _parse(argv)
            command: Callable[[argparse.Namespace], int] = arguments.command
            return command(arguments)
        finally:
            sys.stdout.flush()
    except (InputError, BackendError) as error:
        return _fail(error, 2)
    except (DivergenceError, OutOfMemoryError) as error:
        return _fail(error, 1)
    except MemoryError as error:  # while loading; during training the message says more
        return _fail(MemoryError(f"out of memory: {error or 'the data is too large'}"), 1)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        discard_output(sys.stdout)
        return 1
    except OSError as error:
        discard_output(sys.stdout)
        return _fail(_describe(error), 2 if error.errno in UNUSABLE else 1)
    except Interrupted as error:
        print(f"\n{format_message(error)}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nStopped", file=sys.stderr)
        return 130


def _describe(error: OSError) -> str:
    """Return what could not be read or written, and why."""
    if error.strerror is None:
        return str(error)
    return f"{'cannot write the output' if error.filename is None else error.filename}: {error.strerror}"


def _fail(error: Exception | str, status: int) -> int:
    print(f"error: {format_message(error)}", file=sys.stderr)
    return status


def train(arguments: argparse.Namespace) -> int:
    """Train a network, or resume a run."""
    from threadpoolctl import threadpool_limits

    from xpnet.command import run
    from xpnet.command.folder import lock_folder
    from xpnet.command.resume import find_run, read_run

    if arguments.list_recipes:
        return list_recipes()
    given = {name: value for name, value in vars(arguments).items() if name in OPTIONS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(tolerate_errors())
        try:
            if arguments.resume is not None:
                folder = find_run(arguments.resume)
                stack.enter_context(lock_folder(folder))
                options, name = read_run(folder, given)
                recipe = None if name is None else load_recipe(name)
            else:
                folder = None
                recipe = None if arguments.recipe is None else load_recipe(arguments.recipe)
                options = recipe.override(given) if recipe else Options(**given)
        except InputError as error:
            arguments.parser.error(str(error))
        stack.enter_context(threadpool_limits(options.threads))
        agrees = run.train(options, folder, recipe)
    # A recipe that was changed may give other results.
    return 1 if recipe and not agrees and recipe.is_followed_by(options) else 0


def list_recipes() -> int:
    """Print each recipe with its title, its note and its expected results."""
    for name in recipe_names():
        recipe = load_recipe(name)
        print(f'{name}\n    "{escape(recipe.title)}"')
        for line in recipe.note.splitlines():
            print(f"    {escape(line)}")
        if recipe.printed is not None:
            printed = recipe.printed
            print(f"    expected: {len(printed.lines)} printed lines, to {printed.decimals} decimals")
        for figure, expected in recipe.expected.items():
            print(f"    expected: {figure.replace('_', ' ')} {expected.describe(figure)}")
    return 0


def info(arguments: argparse.Namespace) -> int:
    """Print each array library with its version and devices, or why it cannot be used and the remedy."""
    print(f"xpnet {xpnet.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}\n")
    for library in LIBRARIES.values():
        print(f"{library.name:<17}{library.find_version() or '-'}")
        if library.find_version() is None:
            print(f"    not installed: {library.remedy}")
            continue
        for device in library.devices:
            problem = library.find_problem(device)
            hardware = None if problem else library.bind(device, "float32").hardware
            print(f"    {device}: {problem or 'usable'}{f' ({hardware})' if hardware else ''}")
    return 0


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], Callable[..., None] | None, str]] = {
    "train": (train, add_train_arguments, "[options]"),
    "predict": (predict_files, add_predict_arguments, "[options] model file [file ...]"),
    "export": (export_model, add_export_arguments, "[options] model"),
    "info": (info, None, ""),
}


class _Parser(argparse.ArgumentParser):
    """Prints an error first, and one line of usage instead of every option."""

    def error(self, message: str) -> NoReturn:
        message = format_message(message.removeprefix("argument "))
        self.exit(2, f"error: {message}\n{self.format_usage()}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; exit with status 2 and the nearest valid name if there is a mistake in them."""
    parser = _make_parser()
    for word in argv:
        if "\0" in word:
            parser.error(f"expected arguments without NUL characters, got {word!r}")
    if argv and not argv[0].startswith("-"):
        try:
            choose("command", argv[0], COMMANDS)
        except InputError as error:
            parser.error(str(error))
    arguments, unknown = parser.parse_known_args(argv)
    parser = arguments.parser
    if unknown:
        options = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if not options:
            parser.error(f"unexpected argument {unknown[0]!r}")
        valid = [flag for flag in parser._option_string_actions if flag.startswith("--")]
        if options[0] in valid:
            parser.error(f"{options[0]} belongs after the command: {parser.prog} {options[0]}")
        nearest = find_nearest(options[0], valid)
        hint = "" if nearest is None else f". Did you mean {nearest!r}?"
        parser.error(f"unknown option {options[0]!r}{hint}")
    if arguments.command is None:
        parser.error(f"expected a command: {', '.join(COMMANDS)}")
    return arguments


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=format_command(),
        usage="%(prog)s [--help] [--version] train|predict|export|info [options]",
        description=xpnet.__doc__,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=xpnet.__version__)
    parser.set_defaults(parser=parser, command=None)
    commands = parser.add_subparsers(metavar="train | predict | export | info")
    for name, (command, add_arguments, usage) in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            prog=format_command(name),
            usage=f"%(prog)s [--help] {usage}".rstrip(),
            help=command.__doc__,
            description=command.__doc__,
            allow_abbrev=False,
        )
        subparser.set_defaults(command=command, parser=subparser)
        if add_arguments is not None:
            add_arguments(subparser)
    return parser
