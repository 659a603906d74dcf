"""What the programs share: options, help, logging, and how they end (errors in one line, a clean
stop).

A program imports only argparse and this at its top, and all else inside its functions, so that
``--help`` answers at once; it ends with ``command_line.run(main)``.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from likeness.scene.errors import UserError, one_line

if TYPE_CHECKING:
    from likeness.fitting.bundle import AvatarBundle
    from likeness.playback.chosen_states import ChosenStates

_PACKAGE = "likeness"
_resume_hint = "run the same command again"


class Terminated(KeyboardInterrupt):
    """SIGTERM. A KeyboardInterrupt, so that what saves its work on Ctrl-C does so on this, too."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a program to its exit code.

    UserError and a full disk: one line on stderr, code 2. Ctrl-C: one line that says how to resume,
    code 130; SIGTERM likewise with 143. A reader of our output that went away: 141. Anything else
    is a bug and keeps its traceback.
    """
    set_up_environment()
    set_up_logging()
    set_up_output()
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code = main() or 0
        # so that a closed pipe shows here and not in the interpreter's last breath
        sys.stdout.flush()
    except UserError as error:
        code = _fail(str(error))
    except Terminated:
        code = _stopped(143)
    except KeyboardInterrupt:
        code = _stopped(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}no space left on the disk; free some, then {_resume_hint}")
    sys.exit(code)


def resume_with(hint: str) -> None:
    """Sets what a stopped program tells its user to do, such as ``resume with --resume me``."""
    global _resume_hint
    _resume_hint = hint


def _on_sigterm(*_: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the program at once
    raise Terminated


def _fail(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return 2


def _stopped(code: int) -> int:
    print(f"stopped; {one_line(_resume_hint)}", file=sys.stderr)
    return code


# Environment and logging


def set_up_environment() -> None:
    """Sets what native libraries read when they load: call before the first import of torch. What
    is set, stays."""
    # Waiting OpenMP threads must sleep: spinning ones cost a factor of 6 as soon as another program
    # uses a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))
    # SciPy's OpenBLAS solves small systems (the tracker's) hundreds of times slower with two
    # threads than with one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in ("MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, threads.split(",")[0])
    os.environ.setdefault("GLOG_minloglevel", "2")  # mediapipe
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # tensorboard
    # read when the first video is opened, for reading or writing
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def available_cores() -> int:
    """Physical cores that this process may use: its CPU affinity, without hyper-threads, within a
    container's quota."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = os.sched_getaffinity(0)
    cores = {
        _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        for cpu in cpus
    }
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    limit = -(-int(quota) // int(period)) if quota.isdigit() and period.isdigit() else len(cores)
    return max(1, min(len(cores), limit))


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def set_up_logging() -> None:
    """Our INFO lines plain, warnings marked (in colour on a terminal), on stderr; other packages'
    warnings, too."""
    handler = _Handler()
    handler.setFormatter(
        _Formatter(coloured=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_PACKAGE).setLevel(logging.INFO)


def set_up_output() -> None:
    """What programs print on stdout, names of files among it, cannot steer a terminal, nor end in
    an encoding error."""
    if type(sys.stdout) is io.TextIOWrapper:  # and not what a test puts in its place
        sys.stdout.flush()
        encoding, terminal = sys.stdout.encoding, sys.stdout.isatty()
        plain = _PlainText(
            sys.stdout.detach(), encoding, "backslashreplace", line_buffering=terminal
        )
        sys.stdout = sys.__stdout__ = plain  # which the interpreter puts back before it ends


class _PlainText(io.TextIOWrapper):
    """A stream that writes control characters but for line ends and tabs as ``\\x1b``."""

    def write(self, text: str) -> int:
        plain = "".join(
            c if c >= " " and not "\x7f" <= c < "\xa0" or c in "\n\t" else ascii(c)[1:-1]
            for c in text
        )
        super().write(plain)
        return len(text)


class _Formatter(logging.Formatter):
    def __init__(self, coloured: bool) -> None:
        super().__init__("%(message)s")
        yellow, red, plain = ("\033[33m", "\033[31m", "\033[0m") if coloured else ("", "", "")
        self._warning, self._error = f"{yellow}warning:{plain} ", f"{red}error:{plain} "

    def format(self, record: logging.LogRecord) -> str:
        level = self._error if record.levelno >= logging.ERROR else self._warning
        return (level if record.levelno >= logging.WARNING else "") + super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        # names of files are in it; a traceback comes after it and keeps its lines
        return one_line(record.message)


class _Handler(logging.Handler):
    """Writes to today's sys.stderr, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            bars = sys.modules.get("tqdm")
            if bars is not None and getattr(bars.tqdm, "_instances", None):
                bars.tqdm.write(self.format(record), file=sys.stderr)
            else:
                print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


# Options


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, which takes no abbreviations, and whose help
    shows defaults."""

    def __init__(self, description: str | None, command: str) -> None:
        super().__init__(
            prog=f"likeness {command}",
            description=description,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {one_line(message)}; see {self.prog} --help\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _get_help_string(self, action: argparse.Action) -> str:
        notes = [getattr(action, "unit", None) or ""]
        if action.option_strings and action.default not in (None, False, argparse.SUPPRESS, []):
            notes.append(f"default: {action.default}".replace("%", "%%"))
        text = "; ".join(note for note in notes if note)
        return (action.help or "") + (f" [{text}]" if text else "")


def option(
    parser: argparse._ActionsContainer, *names: str, unit: str | None = None, **kwargs: Any
) -> argparse.Action:
    """``parser.add_argument`` with a unit (pixels, minutes ...), which the help shows beside the
    default."""
    action = parser.add_argument(*names, **kwargs)
    action.unit = unit  # type: ignore[attr-defined]
    return action


def positive_int(text: str) -> int:
    """For ``type=``: a whole number from 1 to ``likeness.scene.bounds.MAX_WHOLE``."""
    from likeness.scene.bounds import MAX_WHOLE

    value = whole(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    if value > MAX_WHOLE:  # nor could a run be read again that notes it
        raise argparse.ArgumentTypeError(f"expected at most {MAX_WHOLE}, got {text!r}")
    return value


def seed(text: str) -> int:
    """For ``type=``: a whole number from 0, which fits every generator."""
    value = whole(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to {2**32 - 1}, got {text!r}"
        )
    return value


def whole(text: str) -> int:
    """A whole number from 0 on, -1 for other texts; one of more digits than any option takes as
    10^20 (Python refuses thousands of digits)."""
    digits = text.strip().removeprefix("+")
    return -1 if not digits.isdecimal() else int(digits) if len(digits) <= 20 else 10**20


def positive_number(text: str) -> float:
    """For ``type=``: a number above 0, at most ``likeness.scene.bounds.MAX_NUMBER``."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def number(text: str) -> float:
    """For ``type=``: a number from 0 to ``likeness.scene.bounds.MAX_NUMBER``."""
    from likeness.scene.bounds import MAX_NUMBER

    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    if value > MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"expected at most {MAX_NUMBER:g}, got {text!r}")
    return value


def port(text: str) -> int:
    """For ``type=``: a port to listen on."""
    value = whole(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 65535, got {text!r}")
    return value


# What options take: their type, placeholder and unit.
FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
DIR: dict[str, Any] = {"type": Path, "metavar": "DIR"}
RUN: dict[str, Any] = {"type": Path, "metavar": "RUN"}
COUNT: dict[str, Any] = {"type": positive_int, "metavar": "N"}
SECONDS: dict[str, Any] = {"type": number, "metavar": "S", "unit": "seconds"}
MINUTES: dict[str, Any] = {"type": positive_number, "metavar": "M", "unit": "minutes"}
FLAG: dict[str, Any] = {"action": "store_true"}


# Options that several commands have


def add_device(parser: argparse._ActionsContainer) -> None:
    """--device; resolve its value with ``likeness.scene.devices.choose_device``."""
    text = "where to compute; auto takes CUDA where it works"
    option(parser, "--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)


def add_seed(parser: argparse._ActionsContainer) -> None:
    """--seed."""
    kind = {"type": seed, "metavar": "N", "unit": "number"}
    option(parser, "--seed", **kind, default=0, help="seed of everything random")


def add_weights(parser: argparse._ActionsContainer) -> None:
    """--weights and --offline, for the published weights that are used where they can be had."""
    text = "folder with files of published weights (MODNet, VGG16, ...), searched before a download"
    option(parser, "--weights", **DIR, help=text)
    text = "download nothing; what needs missing weights is left out"
    option(parser, "--offline", **FLAG, help=text)


def add_coarse(parser: argparse._ActionsContainer) -> None:
    """--coarse, for what shows avatars."""
    text = "leave out the screen refiner where the avatar has one, as exported files do"
    option(parser, "--coarse", **FLAG, help=text)


def add_compile(parser: argparse._ActionsContainer) -> None:
    """--compile, for what plays avatars for long."""
    text = "with CUDA: also try torch.compile, which takes a minute, and keep it if it is faster"
    option(parser, "--compile", **FLAG, help=text)


def add_viewer(parser: argparse._ActionsContainer) -> None:
    """--host and --port of the live viewer."""
    option(
        parser,
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; with 0.0.0.0 anyone in the network who has the printed "
        "address can watch and save",
    )
    kind = {"type": port, "metavar": "N", "unit": "number"}
    option(parser, "--port", **kind, default=8080, help="port of the live viewer")


def add_config(
    parser: argparse._ActionsContainer, default: str | None = "default", note: str = ""
) -> None:
    """--preset, --set and --help-config; resolve them with
    ``likeness.scene.config_files.load_preset`` and ``listing``.

    note: goes with the help of --preset, where its default depends on other options.
    """
    text = "settings to start from: a file of configs/ without .yaml, or the path of a YAML file"
    option(parser, "--preset", default=default, metavar="NAME", help=text + note)
    option(
        parser,
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change one setting of the preset, such as a.b=1e-3; repeat for more (last one wins)",
    )
    text = "list every setting, its meaning and default, and exit"
    option(parser, "--help-config", **FLAG, help=text)


_TRACKING = ("pictures", "landmarks")


def add_preprocessing(parser: argparse._ActionsContainer) -> None:
    """How a video becomes a capture; ``preprocessing`` gives the values."""
    pixels = {"type": positive_int, "unit": "pixels"}
    option(parser, "--size", **pixels, default=512, help="side of the square images")
    text = "matting model: selfie, modnet, or auto, which takes modnet where its weights are"
    option(parser, "--matting", type=_matting, metavar="NAME", default="auto", help=text)
    text = "pictures: photometric tracking after the landmarks'; landmarks: quicker, a few dB worse"
    option(parser, "--tracking", choices=_TRACKING, default="pictures", help=text)
    option(parser, "--start", **SECONDS, help="leave out the video before this")
    option(parser, "--end", **SECONDS, help="leave out the video after this")
    option(
        parser,
        "--focal",
        type=positive_number,
        metavar="F",
        unit="long sides of the image",
        help="focal length; unless given the file's, else 2.5 for square and 1.0 for other images",
    )


def _matting(text: str) -> str:
    from likeness.preprocess.matting import NAMES

    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(NAMES)}, got {text!r}")
    return text


def preprocessing(args: argparse.Namespace) -> dict[str, Any]:
    """The values of the options of ``add_preprocessing``, by the fields of PreprocessConfig."""
    names = ("size", "matting", "tracking", "start", "end", "focal")
    return {name: getattr(args, name) for name in names}


def add_states(group: argparse._ActionsContainer) -> None:
    """--frame, --sequence, --start, --end and --expression; ``states`` gives what they choose."""
    source = group.add_mutually_exclusive_group()
    kind = {"type": int, "metavar": "N", "unit": "number from 0"}
    option(source, "--frame", **kind, help="a frame of the recording [default: the neutral head]")
    option(
        source,
        "--sequence",
        nargs="?",
        const="recording",
        metavar="FILE",
        help="all frames of the recording, or of a file of head states (.npz)",
    )
    option(group, "--start", **SECONDS, help="where the sequence begins")
    option(group, "--end", **SECONDS, help="where the sequence ends")
    text = "set these coefficients (0 to 1), such as jawOpen=0.7,smile=0.5"
    option(group, "--expression", metavar="NAME=V,...", help=text)


def states(args: argparse.Namespace, bundle: AvatarBundle) -> ChosenStates:
    """The states of the options --frame, --sequence, --start, --end and --expression."""
    from likeness.playback.chosen_states import (
        one_frame,
        parse_expression,
        sequence,
        with_expression,
    )

    if args.sequence is None:
        chosen = one_frame(bundle, args.frame)
    else:
        chosen = sequence(bundle, args.sequence, args.start, args.end)
    if args.expression is None:
        return chosen
    names = bundle.expression_names
    return with_expression(chosen, parse_expression(args.expression, names), names)


_DRIVER = "video, run, capture, ARKit CSV or head states (.npz)"


def add_driver(source: argparse._ActionsContainer, how: argparse._ActionsContainer) -> None:
    """--driver (into ``source``), and --kind, --fps, --neutral and --cache (into ``how``)."""
    option(source, "--driver", metavar="X", help=_DRIVER)
    text = "what --driver is: run, capture, states, arkit_csv, video [default: by its content]"
    option(how, "--kind", metavar="NAME", help=text)
    option(
        how,
        "--fps",
        type=positive_number,
        metavar="F",
        unit="frames per second",
        help="frame rate of the states, or of the frame counter in the CSV's timecodes",
    )
    text = "number of a driver's frame with a neutral face [default: detected]"
    option(how, "--neutral", type=int, metavar="FRAME", help=text)
    option(
        how,
        "--cache",
        **DIR,
        help="folder for captures of driving videos [default: runs/.captures]",
    )
