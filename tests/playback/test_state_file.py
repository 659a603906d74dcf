"""Files of head states come back as they were, by name; anything wrong is one error that names file
and field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.playback.state_file import load_states, save_states
from likeness.scene.errors import UserError
from tests import toys

NAMES, JOINTS = ("jawOpen", "mouthSmileLeft", "eyeBlinkLeft"), ("eye_left", "eye_right")


@pytest.fixture
def saved(tmp_path):
    states = toys.random_states((5,), 3, 2, seed=3)
    save_states(tmp_path / "states.npz", states, 30.0, NAMES, JOINTS)
    return tmp_path / "states.npz", states


def rewritten(path, **changes):
    """The same file with some arrays changed; None leaves one out."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_round_trip(saved):
    path, states = saved
    found, fps = load_states(path, NAMES, JOINTS)
    assert fps == 30.0
    for name in ("expression", "joints", "T_world_head", "T_world_body", "secondary_motion"):
        torch.testing.assert_close(getattr(found, name), getattr(states, name), atol=0, rtol=0)


def test_columns_are_found_by_name(saved):
    path, states = saved
    found, _ = load_states(path, NAMES[::-1], JOINTS[::-1])
    torch.testing.assert_close(found.expression, states.expression.flip(-1))
    torch.testing.assert_close(found.joints, states.joints.flip(-2))


def test_double_precision_and_one_frame_are_fine(saved):
    path, states = saved
    with np.load(path) as file:
        names = ("expression", "joints", "T_world_head", "T_world_body", "sway")
        first = {n: file[n][:1].astype(np.float64) for n in names}
    found, _ = load_states(rewritten(path, **first), NAMES, JOINTS)
    assert found.expression.dtype == torch.float32
    torch.testing.assert_close(found.T_world_head, states.T_world_head[:1])


def _nan(shape, at):
    array = np.zeros(shape, np.float32)
    array[at] = np.nan
    return array


def _mirror():
    poses = np.tile(np.eye(4, dtype=np.float32), (5, 1, 1))
    poses[3, 0, 0] = -1
    return poses


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"fps": None, "joints": None}, "joints and 1 more missing; likeness drive"),
        ({"fps": np.float64(0)}, "fps: expected a number above 0"),
        ({"fps": np.array([25.0, 30.0])}, r"fps: expected the shape \[\], got \[2\]"),
        ({"fps": np.array("25")}, "fps: expected real numbers, got text"),
        (
            {"expression": np.zeros((5, 4), np.float32)},
            r"expression: expected the shape \[T, 3\], got \[5, 4\]",
        ),
        (
            {"expression": np.zeros(3, np.float32)},
            r"expression: expected the shape \[T, 3\], got \[3\]",
        ),
        (
            {"expression": np.zeros((0, 3), np.float32)},
            r"joints: expected the shape \[0, 2, 4\], got \[5, 2, 4\]",
        ),
        ({"expression": np.zeros((5, 3), complex)}, "expression: expected real numbers"),
        ({"expression": _nan((5, 3), (2, 1))}, "expression: holds values that are not finite"),
        (
            {"T_world_head": np.zeros((4, 4), np.float32)},
            r"T_world_head: expected the shape \[5, 4, 4\], got \[4, 4\]",
        ),
        ({"sway": np.zeros((5, 3, 2), np.float32)}, "sway: expected"),
        (
            {"T_world_body": np.zeros((5, 4, 4), np.float32)},
            "T_world_body of frame 0: its last row is not 0 0 0 1",
        ),
        ({"T_world_body": _mirror()}, "T_world_body of frame 3: its upper left 3x3 mirrors"),
        ({"joints": np.zeros((5, 2, 4), np.float32)}, "joints of frame 0: not a unit quaternion"),
        (
            {"expression_names": np.array(["jawOpn", *NAMES[1:]])},
            "no 'jawOpn'; did you mean jawOpen?",
        ),
        ({"expression_names": np.array(["jawOpen", *NAMES[:2]])}, "'jawOpen' stands there twice"),
        ({"expression_names": np.array(NAMES[:2])}, "expression_names: lacks eyeBlinkLeft"),
        ({"expression_names": np.array([1, 2, 3])}, "expression_names: expected text, got int64"),
        ({"joint_names": np.array(["jaw", "eye_left"])}, "joint_names: the avatar has no 'jaw'"),
    ],
)
def test_what_is_wrong_is_named(saved, changes, words):
    path = rewritten(saved[0], **changes)
    with pytest.raises(UserError, match=words) as error:
        load_states(path, NAMES, JOINTS)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


class _Bomb:
    def __reduce__(self):
        return (open, ("pickle_was_executed", "w"))


def test_python_objects_are_refused_not_executed(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = rewritten(saved[0], expression=np.array([_Bomb()], dtype=object))
    with pytest.raises(UserError, match="expression: expected real numbers, got Python objects"):
        load_states(path, NAMES, JOINTS)
    assert not (tmp_path / "pickle_was_executed").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x80\x04."])
def test_other_files(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as the file of head states"):
        load_states(tmp_path / "x.npz", NAMES, JOINTS)
    with pytest.raises(UserError, match="not found"):
        load_states(tmp_path / "y.npz", NAMES, JOINTS)


def test_a_file_that_is_cut_off(saved):
    path = saved[0]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot be read"):
        load_states(path, NAMES, JOINTS)


def test_what_claims_to_be_huge_is_not_unpacked(saved, monkeypatch):
    monkeypatch.setattr("likeness.playback.state_file._MAX_BYTES", 100)
    with pytest.raises(UserError, match="has at most"):
        load_states(saved[0], NAMES, JOINTS)
