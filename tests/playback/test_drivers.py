"""Drivers: what each kind reads, how kinds are told apart, and what is said of bad files."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from likeness.playback.drivers import DRIVERS, DriverOptions, kind_of, open_driver
from likeness.playback.drivers.timecode import seconds_of
from likeness.playback.poses import head_rotation
from likeness.playback.state_file import load_states, save_states
from likeness.scene.errors import UserError
from likeness.scene.gaze import gaze_quats, quats_to_gaze
from likeness.scene.transforms import rotation_angles
from tests import arkit, documentation, toys


@pytest.fixture(scope="module")
def bundle():
    return toys.arkit_bundle()


@pytest.fixture(scope="module")
def played():
    return toys.performance()


@pytest.fixture(scope="module")
def cells(bundle, played):
    return arkit.table(played[0], bundle.expression_names, played[1], 60)


def edited(tmp_path, cells, line: int, column: str | int, value: str | None):
    """A file with one cell of a line (counted from 1) replaced, or the line cut off before it."""
    cells = [list(row) for row in cells]
    place = column if isinstance(column, int) else cells[0].index(column)
    cells[line - 1][place:] = [] if value is None else [value, *cells[line - 1][place + 1 :]]
    return arkit.write(tmp_path / "phone.csv", cells)


# ARKit CSV


@pytest.mark.parametrize("rate", [30, 60])
def test_a_csv_of_either_rate_gives_the_states_back(tmp_path, bundle, played, rate):
    states, times = played
    path = arkit.write(
        tmp_path / "phone.csv", arkit.table(states, bundle.expression_names, times, rate)
    )
    driver = open_driver(path, bundle)
    assert driver.fps == pytest.approx(25, abs=0.05) and len(driver) == 40 and driver.images is None
    torch.testing.assert_close(driver.times, times, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        driver.states.expression, states.expression.clamp(0, 1), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(driver.states.joints, states.joints, atol=1e-5, rtol=0)
    found, expected = driver.states.T_world_head[:, :3, :3], states.T_world_head[:, :3, :3]
    relative = [x[:1].transpose(1, 2) @ x for x in (found, expected)]
    assert float(rotation_angles(relative[0].transpose(1, 2) @ relative[1]).max()) < 2e-3
    torch.testing.assert_close(driver.states.T_world_body[0], bundle.default_state.T_world_body)


def test_signs_of_the_head():
    ahead, left = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    angle, zero = torch.tensor([0.3]), torch.zeros(1)
    assert (head_rotation(angle, zero, zero)[0] @ ahead)[0] > 0.2  # to the subject's left
    assert (head_rotation(zero, angle, zero)[0] @ ahead)[1] > 0.2  # up
    assert (head_rotation(zero, zero, angle)[0] @ left)[1] > 0.2  # the left side rises


@pytest.mark.parametrize("sign", [1, -1])
def test_mirrored_eyes_are_set_right_by_the_curves(tmp_path, bundle, played, cells, sign):
    mirrored = [cells[0]] + [
        [*row[:57], *(f"{sign * float(cell):.7f}" for cell in row[57:])] for row in cells[1:]
    ]
    driver = open_driver(arkit.write(tmp_path / "p.csv", mirrored), bundle)
    torch.testing.assert_close(driver.states.joints, played[0].joints, atol=1e-5, rtol=0)


def test_without_eyes_head_and_tongue_the_face_is_driven_alone(tmp_path, bundle, played, cells):
    short = [row[:53] for row in cells]  # up to before TongueOut
    driver = open_driver(arkit.write(tmp_path / "p.csv", short), bundle)
    assert (driver.states.T_world_head == driver.states.T_world_head[0]).all()
    # by the eyeLook curves
    torch.testing.assert_close(driver.states.joints, played[0].joints, atol=2e-3, rtol=0)
    assert (driver.states.expression[:, bundle.expression_names.index("tongueOut")] == 0).all()


def test_columns_in_any_order_and_in_arkits_own_spelling(tmp_path, bundle, cells, played):
    order = np.random.default_rng(0).permutation(len(cells[0]))
    mixed = [[row[place] for place in order] for row in cells]
    mixed[0] = [name if name == "Timecode" else name[0].lower() + name[1:] for name in mixed[0]]
    driver = open_driver(arkit.write(tmp_path / "p.csv", mixed), bundle)
    torch.testing.assert_close(driver.states.expression, played[0].expression, atol=1e-5, rtol=0)


def test_frames_that_the_phone_lost_are_filled(tmp_path, bundle, played, cells):
    holes = [list(row) for row in cells]
    holes[6] = [holes[6][0], "0"]
    driver = open_driver(arkit.write(tmp_path / "p.csv", holes), bundle)
    middle = (played[0].expression[4] + played[0].expression[6]) / 2
    torch.testing.assert_close(driver.states.expression[5], middle, atol=1e-4, rtol=0)


def test_a_line_that_ends_before_its_timecode_is_named(tmp_path, bundle, cells):
    turned = [list(reversed(row)) for row in cells]
    turned[4] = turned[4][:10]
    with pytest.raises(UserError, match="line 5: column Timecode: expected HH:MM:SS"):
        open_driver(arkit.write(tmp_path / "p.csv", turned), bundle)


def test_a_rate_is_refused_where_none_is_read(tmp_path, bundle):
    bundle.save(tmp_path / "avatar")
    with pytest.raises(UserError, match="--fps: .* is a run, which has a rate of its own"):
        open_driver(tmp_path / "avatar", bundle, DriverOptions(fps=30))


@pytest.mark.parametrize(
    "line, column, value, message",
    [
        (4, "JawOpen", "nan", r"line 4: column JawOpen: expected a number, got 'nan'"),
        (9, "HeadYaw", "a lot", r"line 9: column HeadYaw: expected a number"),
        (7, "MouthClose", None, r"line 7: column MouthClose: missing"),
        (5, "Timecode", "13:07:24:00.000", r"line 5: column Timecode: .* does not come after"),
        (5, "Timecode", "noon", r"line 5: column Timecode: expected HH:MM:SS:FF.fff"),
        (1, "JawOpen", "Chin", r"line 1: column JawOpen missing"),
        (1, "HeadPitch", "x", r"line 1: column HeadPitch missing"),
        (1, "JawLeft", "JawOpen", r"line 1: column JawOpen occurs twice"),
        (3, "HeadYaw", "25.0", r"column HeadYaw: values up to 25.0; expected radians"),
    ],
)
def test_bad_csv_files_are_told_by_line_and_column(
    tmp_path, bundle, cells, line, column, value, message
):
    path = edited(tmp_path, cells, line, column, value)
    with pytest.raises(UserError, match=message) as caught:
        open_driver(path, bundle, kind="arkit_csv")
    assert str(path) in str(caught.value)


def test_a_wrong_rate_is_an_error_and_the_right_one_goes(tmp_path, bundle, cells, played):
    path = arkit.write(tmp_path / "p.csv", cells)
    with pytest.raises(
        UserError, match=r"line \d+: column Timecode: .* counts to frame \d+ .* --fps"
    ):
        open_driver(path, bundle, DriverOptions(fps=30))
    assert len(open_driver(path, bundle, DriverOptions(fps=60))) == 40
    half = arkit.table(played[0], bundle.expression_names, played[1], 30)
    with pytest.raises(UserError, match="count about 30 frames a second, not the 60 of --fps"):
        open_driver(arkit.write(tmp_path / "half.csv", half), bundle, DriverOptions(fps=60))


def test_one_frame_a_second_says_nothing_of_the_rate(tmp_path):
    for rate in (None, 30.0):
        times, fps = seconds_of(tmp_path, codes(range(5), 60), rate)
        assert times.tolist() == [0, 1, 2, 3, 4] and fps == 1


def codes(times, rate, start=47245.0):
    return [(number + 2, arkit.timecode(time, rate, start)) for number, time in enumerate(times)]


@pytest.mark.parametrize(
    "rate, step", [(24, 1 / 24), (25, 1 / 25), (30, 1 / 30), (60, 1 / 60), (60, 1 / 30)]
)
def test_rates_are_found(tmp_path, rate, step):
    times = np.arange(150) * step
    found, fps = seconds_of(tmp_path, codes(times, rate))
    np.testing.assert_allclose(found, times, atol=1e-3)
    assert fps == pytest.approx(1 / step, rel=2e-3)


def test_timecodes_go_on_over_midnight(tmp_path):
    found, _ = seconds_of(tmp_path, codes(np.arange(120) / 60, 60, start=86399.0))
    np.testing.assert_allclose(np.diff(found), 1 / 60, atol=1e-3)


def test_gaze_angles_and_rotations_are_inverse():
    angles = torch.tensor([[0.3, -0.2], [-0.5, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(quats_to_gaze(gaze_quats(angles)), angles, atol=1e-6, rtol=0)


# The other kinds


def test_states_come_back_in_the_avatars_order(tmp_path, bundle, played):
    states, names = played[0], bundle.expression_names
    order = torch.randperm(len(names))
    shuffled = tuple(names[i] for i in order)
    mixed = dataclasses.replace(
        states, expression=states.expression[:, order], joints=states.joints.flip(1)
    )
    save_states(tmp_path / "s.npz", mixed, 25.0, shuffled, bundle.joint_names[::-1])
    driver = open_driver(tmp_path / "s.npz", bundle)
    assert kind_of(tmp_path / "s.npz") == "states" and driver.fps == 25
    for field in dataclasses.fields(states):
        name = field.name
        torch.testing.assert_close(
            getattr(driver.states, name), getattr(states, name), atol=0, rtol=0
        )


def test_bad_files_of_states(tmp_path, bundle, played):
    save_states(tmp_path / "s.npz", played[0], 25.0, bundle.expression_names, bundle.joint_names)
    with pytest.raises(UserError, match="expression_names: the avatar has no"):
        load_states(tmp_path / "s.npz", ("other",), ())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:500])
    with pytest.raises(UserError, match="cannot be read as the file of head states"):
        open_driver(tmp_path / "cut.npz", bundle)
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="foreign.npz"):
        open_driver(tmp_path / "foreign.npz", bundle)


def test_runs_captures_and_avatars_drive(tmp_path, bundle):
    capture = toys.make_capture(tmp_path / "me" / "capture", frames=6, size=24, test=2)
    (tmp_path / "me" / "run.json").write_text(json.dumps({"format": "run", "format_version": 1}))
    for path, kind in ((tmp_path / "me", "run"), (tmp_path / "me" / "capture", "capture")):
        driver = open_driver(path, bundle)
        assert kind_of(path) == kind and driver.name == "me" and len(driver) == 6
        torch.testing.assert_close(driver.states.T_world_head, capture.states.T_world_head)
        assert driver.images(3).shape == (24, 24, 3) and driver.K.shape == (3, 3)
    bundle.save(tmp_path / "alone")
    driver = open_driver(tmp_path / "alone", bundle)
    assert kind_of(tmp_path / "alone") == "run" and len(driver) == 40 and driver.images is None
    assert driver.fps == pytest.approx(25, rel=1e-3)


def test_a_driver_of_another_head_model_is_an_error(tmp_path, bundle):
    from tests.contract.test_avatars import EXTENDED, make

    toys.bundle(make("headgas", EXTENDED)).save(tmp_path / "other")
    with pytest.raises(UserError, match="has no expression 'eyeBlinkLeft', which the avatar needs"):
        open_driver(tmp_path / "other", bundle)


def test_unknown_drivers(tmp_path, bundle):
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(UserError, match="not recognised as a driver.*--kind"):
        open_driver(tmp_path / "notes.txt", bundle)
    with pytest.raises(UserError, match="neither a run nor a capture nor an avatar"):
        open_driver(tmp_path, bundle)
    with pytest.raises(UserError, match="no such file or folder"):
        open_driver(tmp_path / "absent.mp4", bundle)
    with pytest.raises(UserError, match="no driver of kind 'tape'"):
        open_driver(tmp_path / "notes.txt", bundle, kind="tape")
    assert set(DRIVERS) == {"run", "capture", "arkit_csv", "states", "video", "webcam"}


def test_gaps_stand_still(bundle, played):
    from likeness.playback.drivers import Recording

    times = torch.tensor([0.0, 0.1, 0.2, 0.6, 0.7], dtype=torch.float64)
    driver = Recording("x", played[0][:5], times, 10.0)
    assert driver.frames_at(10) == [0, 1, 2, 2, 2, 2, 3, 4]
    assert math.isclose(len(driver.frames_at(30)) / 30, 0.7, abs_tol=0.05)


def test_the_documented_driver_is_one_file_and_one_line(tmp_path, bundle, monkeypatch):
    from scipy.io import wavfile

    example: dict = {}
    exec(documentation.code_under("docs/extending.md", "A driver")[0], example)
    monkeypatch.setitem(DRIVERS, "sound", example["SOUND"])
    tone = np.sin(np.arange(8000) * 0.3) * np.linspace(0, 20_000, 8000)
    wavfile.write(tmp_path / "speech.wav", 8000, tone.astype(np.int16))
    driver = open_driver(tmp_path / "speech.wav", bundle)
    jaw = driver.states.expression[:, bundle.expression_names.index("jawOpen")]
    assert kind_of(tmp_path / "speech.wav") == "sound" and len(driver) == 25
    assert float(jaw[-1]) == 1 and (jaw.diff() > 0).all()
