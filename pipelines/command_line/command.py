"""How every script here starts and ends: flags, plain errors, exit codes.

Exit codes: 0 done, 1 failed at run time, 2 bad input (a flag, a file, a bundle), 130 stopped by Ctrl-C
(SIGINT), 143 by SIGTERM: 128 and the signal's number, as shells and schedulers have it.
"""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from absl import app, flags, logging

from pipelines.command_line import streams

# TensorFlow reads this when it is first imported. The scripts of export/ may not import causerec_tf, which
# sets it too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FLAGS = flags.FLAGS

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


# Flags that are defined under a module name with this ending stand in a group of their own in --help.
GROUP_ENDING = " settings"
_HELP = frozenset(("--help", "-help", "-h", "-?"))


class _Terminated(KeyboardInterrupt):
    """SIGTERM. It ends a script as Ctrl-C does, and all that cleans up after that cleans up after it."""


def run(
    main: Callable[[], None],
    *,
    bad_input: tuple[type[Exception], ...],
    rewrite: Callable[[list[str]], list[str]] = list,
) -> None:
    """Parses the flags, calls `main` and ends the process with the exit code of the outcome.

    The exceptions of `bad_input` mean "what the user gave cannot be used" (exit code 2). `rewrite` says what
    is made of the command line before its flags are parsed.
    """

    def parse(argv: list[str]) -> list[str]:
        if _HELP.intersection(argv[1:]):
            _print_help()
            sys.exit(0)
        try:
            argv = rewrite(argv)
        except bad_input as error:
            _end(str(error))
        return _parse(argv)

    def guarded(_argv: list[str]) -> int:
        try:
            main()
        except KeyboardInterrupt as stop:
            number = signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT
            said = [f"stopped by {number.name}", *getattr(stop, "__notes__", [])]
            print(": ".join(said), file=sys.stderr)
            return 128 + number
        except Exception as error:
            if FLAGS.debug:
                raise
            if _is_full_disk(error):
                print(
                    f"error: the disk is full: {error}\nFree some space and run the same command again. What"
                    " was complete before is still there; a training resumes from its last checkpoint.",
                    file=sys.stderr,
                )
                return 1
            is_bad_input = isinstance(error, bad_input)
            kind = "" if is_bad_input else f"{type(error).__name__}: "
            print(f"error: {kind}{error}", file=sys.stderr)
            if not is_bad_input:
                print("Run it again with --debug for the traceback.", file=sys.stderr)
            return 2 if is_bad_input else 1
        return 0

    streams.outlive_readers()
    signal.signal(signal.SIGTERM, _terminate)
    logging.set_verbosity(logging.WARNING)
    app.run(guarded, flags_parser=parse)


@contextmanager
def stop_explained(say: Callable[[], str]) -> Iterator[None]:
    """Has more said of a stop by Ctrl-C or SIGTERM than which it was.

    Args:
      say: what is kept and how to go on; called when the block was stopped.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(say())
        raise


def keep_freed_memory() -> None:
    """Asks glibc to keep freed memory for the next step instead of giving it back; elsewhere does nothing.

    A training step frees the matrices it makes. Given back to the operating system, their pages are faulted
    in and zeroed again at every step. All threads share one arena: the others are made of small heaps, which
    are given back whatever the thresholds say.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        options = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: (1 << 31) - 1}
        for option, value in options.items():
            mallopt(option, value)


def _terminate(*_) -> NoReturn:
    raise _Terminated


def _is_full_disk(error: Exception) -> bool:
    # TensorFlow and polars have exceptions of their own for it, with the system's words in them.
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def _parse(argv: list[str]) -> list[str]:
    try:
        left = FLAGS(argv)
    except flags.Error as error:
        _end(str(error))
    if len(left) > 1:
        _end(f"unexpected argument {left[1]!r}: every setting is a flag, --name=value.")
    return left


def _print_help() -> None:
    """What the script does, its own flags, then those that stand in groups of their own."""
    print((sys.modules["__main__"].__doc__ or "").strip())
    print(FLAGS.main_module_help())
    for group in FLAGS.flags_by_module_dict():
        if group.endswith(GROUP_ENDING):
            print(FLAGS.module_help(group))


def _end(message: str) -> NoReturn:
    print(f"error: {message}\n`python {sys.argv[0]} --help` lists the flags.", file=sys.stderr)
    sys.exit(2)
