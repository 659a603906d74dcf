"""How the programs end, what they log, and what their help says."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from likeness.cli import COMMANDS, command_line, main, preprocess
from likeness.preprocess.matting import MATTING
from likeness.scene.devices import choose_device
from likeness.scene.errors import UserError
from tests.programs import called, fails

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "numpy",
    "cv2",
    "mediapipe",
    "numba",
    "kornia",
    "scipy",
    "tensorboard",
    "matplotlib",
    "skimage",
)


def _run(body: str, **kwargs) -> subprocess.CompletedProcess:
    """A program whose main() is ``body``."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    imports = "import os, sys\nfrom likeness.cli import command_line\n"
    imports += "from likeness.scene.errors import UserError"
    code = f"{imports}\ndef main():\n{lines}\ncommand_line.run(main)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, **kwargs
    )


def test_success():
    result = _run("print('done')")
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_a_user_error_is_one_line_and_code_2():
    result = _run("raise UserError('me.mp4: not found;\\n  expected a video')")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: me.mp4: not found; expected a video\n"


def test_a_bug_keeps_its_traceback():
    result = _run("raise ValueError('oops')")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ValueError: oops" in result.stderr


def test_ctrl_c_says_how_to_go_on():
    result = _run(
        "command_line.resume_with('go on with --resume runs/me')\nraise KeyboardInterrupt"
    )
    assert (result.returncode, result.stderr) == (130, "stopped; go on with --resume runs/me\n")


def test_sigterm_stops_cleanly():
    body = (
        "import signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(10)\nexcept KeyboardInterrupt:\n    print('saved'); raise"
    )
    result = _run(body)
    assert (result.returncode, result.stdout) == (143, "saved\n")
    assert result.stderr == "stopped; run the same command again\n"


def test_a_second_sigterm_ends_at_once():
    kill = "os.kill(os.getpid(), signal.SIGTERM)"
    result = _run(f"import signal\ntry: {kill}\nexcept KeyboardInterrupt: {kill}")
    assert result.returncode == -signal.SIGTERM


def test_a_reader_that_went_away_is_no_error():
    code = "from likeness.cli import command_line\ndef main():\n    while True: print('line')\n"
    code += "command_line.run(main)"
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.readline()
    program.stdout.close()
    assert (program.wait(timeout=60), program.stderr.read()) == (141, b"")
    program.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_an_error_of_one_line():
    result = _run("with open('/dev/full', 'w') as file: file.write('x')")
    assert result.returncode == 2
    assert (
        result.stderr
        == "error: no space left on the disk; free some, then run the same command again\n"
    )


# clears a screen, goes back in the line, rings; no text at its end
STEERING = "a\\x1b[2Jb\\rc\\x07\\x9bd\\udcffe"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "body",
    [
        f"print('{STEERING}')",
        f"raise UserError('{STEERING}')",
        f"import logging; logging.getLogger('likeness.collection').warning('%s', '{STEERING}')",
        f"command_line.resume_with('{STEERING}')\nraise KeyboardInterrupt",
        f"command_line.Parser('', 'program').parse_args(['{STEERING}'])",
    ],
)
def test_what_is_printed_cannot_steer_a_terminal(body, stream):
    result = _run(body, env={**os.environ, "PYTHONIOENCODING": "utf-8:surrogateescape"})
    text = getattr(result, stream)
    assert not set(text) - {"\n"} & {chr(code) for code in (*range(32), *range(127, 160))}
    assert (r"a\x1b[2Jb" in text and r"\x9bd" in text and r"\udcffe" in text) == (
        stream == ("stdout" if body.startswith("print") else "stderr")
    )


def test_messages_are_bounded_and_keep_their_remedy():
    result = _run("raise UserError('x' * 5000 + '; choose another file')")
    assert len(result.stderr) < 520 and result.stderr.endswith("; choose another file\n")


def test_log_lines_are_plain_and_warnings_are_marked():
    body = (
        "import logging\nfor name in ('likeness.fitting.loop', 'matplotlib'):\n"
        "    log = logging.getLogger(name); log.info('info of %s', name)\n"
        "    log.warning('warning of %s', name)"
    )
    assert _run(body).stderr.splitlines() == [
        "info of likeness.fitting.loop",
        "warning: warning of likeness.fitting.loop",
        "warning: warning of matplotlib",
    ]


@pytest.mark.parametrize("coloured", [False, True])
def test_colours_only_on_request(coloured):
    record = logging.LogRecord("fitting", logging.WARNING, "", 0, "dim light", None, None)
    text = command_line._Formatter(coloured).format(record)
    assert text == ("\033[33mwarning:\033[0m dim light" if coloured else "warning: dim light")


def test_threads_follow_the_cores_that_are_ours():
    names = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    report = f"print(*[os.environ[name] for name in {names}])"
    clean = {
        name: value
        for name, value in os.environ.items()
        if "OMP" not in name and "_NUM_THREADS" not in name
    }
    assert _run(report, env=clean).stdout.split() == [
        "passive",
        *[str(command_line.available_cores())] * 2,
    ]
    assert _run(report, env=clean | {"OMP_NUM_THREADS": "3"}).stdout.split() == [
        "passive",
        "3",
        "3",
    ]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_one_cpu_of_many_means_one_thread():
    report = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    report += "print(command_line.available_cores())"
    assert _run(report).stdout == "1\n"


def test_hyper_threads_and_container_quotas_are_not_cores(monkeypatch):
    files = {"/sys/fs/cgroup/cpu.max": "max 100000"}
    files |= {
        f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}"
        for n in range(8)
    }
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(command_line, "_read", lambda path: files.get(path, ""))
    assert command_line.available_cores() == 4
    files["/sys/fs/cgroup/cpu.max"] = "150000 100000"
    assert command_line.available_cores() == 2
    files.clear()
    assert command_line.available_cores() == 8


def _parser() -> command_line.Parser:
    parser = command_line.Parser("Does it.", "program")
    command_line.option(
        parser, "--size", type=command_line.positive_int, default=512, unit="pixels", help="side"
    )
    command_line.option(
        parser, "--end", type=command_line.number, unit="seconds", help="stop at 100%% of it"
    )
    command_line.option(parser, "--quick", action="store_true", help="hurry")
    command_line.add_seed(parser)
    command_line.add_device(parser)
    return parser


def test_help_shows_units_and_defaults():
    text = re.sub(r"\s+", " ", _parser().format_help())
    assert "side [pixels; default: 512]" in text
    assert "stop at 100% of it [seconds]" in text
    assert re.search(r"hurry(?! \[)", text)
    assert "[default: auto]" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--size", "0"], "argument --size: expected a whole number above 0, got '0'"),
        (["--size", "big"], "argument --size: expected a whole number above 0, got 'big'"),
        (["--size", "9" * 5000], "argument --size: expected at most 1000000000, got '999"),
        (
            ["--seed", "9" * 5000],
            "argument --seed: expected a whole number from 0 to 4294967295, got '999",
        ),
        (["--end", "1e300"], "argument --end: expected at most 1e+06, got '1e300'"),
        (["--end", "-1"], "argument --end: expected a number from 0 on, got '-1'"),
        (["--end", "nan"], "argument --end: expected a number from 0 on, got 'nan'"),
        (["--end", "inf"], "argument --end: expected a number from 0 on, got 'inf'"),
        (
            ["--seed", "-3"],
            "argument --seed: expected a whole number from 0 to 4294967295, got '-3'",
        ),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--siz", "5"], "unrecognized arguments: --siz 5"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        _parser().parse_args(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert (
        error.startswith(f"error: {message}")
        and error.endswith("; see likeness program --help\n")
        and error.count("\n") == 1
    )


def test_good_arguments():
    args = _parser().parse_args(["--size", "256", "--end", "1e1", "--seed", "7"])
    assert (args.size, args.end, args.seed, args.device) == (256, 10.0, 7, "auto")


def test_device(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="CUDA is not available.*or use the device cpu"):
        choose_device("cuda")
    with pytest.raises(UserError, match="unknown device 'tpu'"):
        choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


# Runs a command with --help, and tells which modules it imported and what its options are.
def test_every_matting_model_can_be_chosen():
    for name in ("auto", *MATTING):
        assert preprocess.parser().parse_args(["a.mp4", "--out=a", "--matting", name])


_SPY = """
import argparse, json, sys
NUMBERS = ("int", "float", "positive_int", "positive_number", "number")
options = []
original = argparse.ArgumentParser.parse_args
def spy(self, *args, **kwargs):
    options.extend(
        {"names": action.option_strings or [action.dest], "help": action.help,
         "unit": getattr(action, "unit", None),
         "numeric": getattr(action.type, "__name__", "") in NUMBERS}
        for action in self._actions)
    return original(self, *args, **kwargs)
argparse.ArgumentParser.parse_args = spy
from likeness.cli import main
try:
    main([sys.argv[1], "--help"])
except SystemExit as stop:
    report = {"code": stop.code, "modules": sorted(sys.modules), "options": options}
    print("\\n" + json.dumps(report))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick_and_complete(command):
    """No heavy module is imported (so that it answers at once); each option has a meaning, each
    number a unit."""
    result = subprocess.run(
        [sys.executable, "-c", _SPY, command], capture_output=True, text=True, timeout=60
    )
    assert result.stderr == ""
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["code"] == 0
    assert set(HEAVY).isdisjoint(report["modules"])
    assert len(report["options"]) > 1
    assert [option["names"] for option in report["options"] if not option["help"]] == []
    # What counts something (--iterations N) names it in its help; what measures has a unit there.
    assert [
        option["names"]
        for option in report["options"]
        if option["numeric"] and not option["unit"]
        if not re.search("iterations|number|frames", option["help"])
    ] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_options_are_one_line(command):
    fails(called(command, "--no-such-option"), "see likeness")


@pytest.mark.parametrize("how", [["fit_subject.py"], ["-m", "likeness", "fit"]])
def test_both_ways_to_fit_are_the_same_program(how):
    result = subprocess.run(
        [sys.executable, *how, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: likeness fit ")


def test_without_a_command_all_are_listed(capsys):
    for words, code in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as stop:
            main(words)
        text = "".join(capsys.readouterr())
        assert stop.value.code == code and all(f"\n  {name} " in text for name in COMMANDS)


def test_an_unknown_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fitt"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'fitt'; did you mean fit?")
