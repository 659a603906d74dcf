"""What is exported for the web: the files, their size and what they lose, and the page's maths
against the avatar's."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.export.quantized import ArrayFile, decode
from likeness.export.web import PAGE, export_web
from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.metrics import psnr
from likeness.head_models.arkit import ARKIT_EXPRESSIONS
from likeness.ops import harmonics
from likeness.playback.player import Player
from likeness.playback.view_clamp.avatar import ViewClampedAvatar
from likeness.playback.view_clamp.gaussians import MAX_HIDDEN_M, ClampedGaussians
from likeness.playback.view_clamp.views import RecordedViews
from likeness.playback.views.trajectories import Angle, turned
from likeness.scene.errors import UserError
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.transforms import matrices_to_quats, rotvecs_to_matrices
from tests import toys
from tests.contract.test_avatars import make
from tests.ops import conformance
from tests.playback import chromium
from tests.playback.web_toys import EXTENDED, described, linear_bundle, read_arrays, read_back

MATHS = Path(__file__).with_name("web_maths.mjs")


def run_maths(folder: Path, **request):
    """What the page's modules answer in node."""
    (folder / "package.json").write_text('{"type": "module"}')
    command = [chromium.node(), str(MATHS), str(folder)]
    result = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_writes_the_page_and_says_what_it_wrote(tmp_path):
    report = export_web(linear_bundle(), tmp_path / "page")
    written = {
        path.relative_to(tmp_path / "page").as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert written == set(report["files"])
    assert {
        "index.html",
        "js/main.js",
        "js/worker.js",
        "vendor/three-spark.min.js",
        "vendor/LICENSES.txt",
    } <= written
    assert report["bytes"] == sum((tmp_path / "page" / name).stat().st_size for name in written)
    again = export_web(linear_bundle(), tmp_path / "page")  # over an earlier one
    assert again == report


def test_twenty_thousand_gaussians_stay_under_20_mb():
    generator, arrays = torch.Generator().manual_seed(0), ArrayFile()
    for rows in (3, 4, 3, 13, 3, 3, 1):  # means, quats, scales, looks, rig and weights
        arrays.even(f"even {rows} {arrays.size}", torch.randn(rows, 20_000, generator=generator))
    # noise: nothing to compress
    arrays.squared("modes", torch.randn(16 * 22, 20_000, generator=generator))
    arrays.squared("confidence", torch.rand(1, 20_000, generator=generator))
    arrays.exact("neighbours", torch.randint(20_000, (8, 20_000), generator=generator), "uint16")
    page = sum(path.stat().st_size for path in PAGE.rglob("*") if path.is_file())
    assert len(arrays.data()) + page < 14e6


def test_only_linear_avatars(tmp_path):
    with pytest.raises(
        ValueError, match="expected an avatar of the kind linear, got headgas; distil it first"
    ):
        export_web(toys.bundle(make("headgas")), tmp_path / "page")
    assert not (tmp_path / "page").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write there"):
        export_web(linear_bundle(), tmp_path / "file" / "page")


def test_quantised_arrays_keep_their_values():
    arrays, generator = ArrayFile(), torch.Generator().manual_seed(1)
    values = (
        torch.randn(4, 301, generator=generator) * torch.tensor([[1e-4], [1.0], [30.0], [0.0]]) + 3
    )
    modes = torch.randn(3, 77, generator=generator) ** 3
    arrays.even("even", values)
    arrays.squared("squared", modes)
    arrays.exact("places", torch.tensor([[0, 65535]]), "uint16")
    content = b"".join(arrays._parts)
    spread = (values.amax(1) - values.amin(1)).numpy()[:, None]
    assert (
        np.abs(decode(content, arrays.index["even"]) - values.numpy())
        <= spread / 65534 * 0.51 + 1e-6
    ).all()
    largest = modes.abs().amax(1).numpy()[:, None]
    error = np.abs(decode(content, arrays.index["squared"]) - modes.numpy())
    assert (error <= largest * (np.sqrt(np.abs(modes.numpy()) / largest) / 127 + 1e-4)).all()
    assert decode(content, arrays.index["places"]).tolist() == [[0, 65535]]
    with pytest.raises(ValueError, match="far: expected values that fit into uint16"):
        arrays.exact("far", torch.tensor([[65536]]), "uint16")
    with pytest.raises(ValueError, match="bad: expected finite numbers"):
        arrays.even("bad", torch.tensor([[math.nan]]))


def test_every_expression_has_one_slider(tmp_path):
    export_web(linear_bundle(), tmp_path)
    groups = json.loads((tmp_path / "avatar.json").read_text())["groups"]
    names = [item["name"] for group in groups for item in group["items"]]
    assert sorted(names) == sorted(ARKIT_EXPRESSIONS)
    assert "Other" not in [group["name"] for group in groups]


def test_the_page_names_no_other_place():
    """Nothing of ours has an address outside, executes text or styles inline; the policy forbids
    it, too."""
    for path in (path for path in PAGE.rglob("*") if path.suffix in (".html", ".css", ".js")):
        if path.parent.name != "vendor":
            text = path.read_text()
            assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), path
            assert not re.search(r"\beval\(|new Function|innerHTML|\sstyle=|\son[a-z]+=\"", text), (
                path
            )
    policy = re.search(
        r'Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text()
    ).group(1)
    assert (
        policy.startswith("default-src 'none'")
        and "unsafe-inline" not in policy
        and "'unsafe-eval'" not in policy
    )


VARIANTS = {
    "everything": {},
    "head only": {"anchoring": AnchoringConfig()},
    "pose correction alone": {"anchoring": AnchoringConfig(pose_correction=True)},
    "no motion, no network": {"motion": False, "hidden_layers": 0},
    "all harmonics": {"sh_degree": 3},
    "constant colour": {"sh_degree": 0, "anchoring": AnchoringConfig(two_frames=True)},
}


def test_the_pages_operations_give_the_numbers_of_every_implementation(tmp_path):
    shutil.copytree(PAGE / "js", tmp_path / "js")
    cases = json.loads(conformance.FILE.read_text(encoding="utf-8"))
    found = run_maths(tmp_path, task="conformance", cases=cases)
    for case, results in found.items():
        for name, values in results.items():
            wanted = cases[case]["quats" if name == "from_matrices" else name]
            np.testing.assert_allclose(
                np.ravel(values), np.ravel(wanted), atol=2e-6, rtol=2e-6, err_msg=f"{case} {name}"
            )


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_pages_maths_is_the_avatars(tmp_path, changes):
    """On what was quantised: all that is left is float32 (sums of some hundred terms of order
    1)."""
    tuning = ExpressionTuning(torch.linspace(-0.3, 2.5, 52), torch.linspace(0.5, 1.5, 52))
    bundle = dataclasses.replace(linear_bundle(**changes), tuning=tuning)
    export_web(bundle, tmp_path)
    avatar = read_back(bundle, tmp_path).avatar
    states = toys.random_states((4,), seed=11)
    turns = toys.random_states((8,), seed=12).T_world_head[:, :3, :3]
    states.joints.copy_(matrices_to_quats(toys.FACING @ turns).reshape(4, 2, 4))
    views = [toys.camera(160).in_frame(pose) for pose in states.T_world_head]
    found = run_maths(
        tmp_path,
        task="clouds",
        states=[described(states[i]) for i in range(4)],
        eyes=[view.center.tolist() for view in views],
    )
    for i, cloud in enumerate(found):
        with torch.no_grad():
            expected = avatar(bundle.tuned(states[i]), views[i].center)
        directions = torch.nn.functional.normalize(expected.means - views[i].center, dim=-1)
        pairs = {
            "means": expected.means,
            "quats": expected.quats,
            "logScales": expected.scales.log(),
            "opacities": expected.opacities[:, None],
            "colors": harmonics.evaluate(expected.sh, directions),
        }
        for name, value in pairs.items():
            torch.testing.assert_close(
                torch.tensor(cloud[name]).T, value, atol=1e-4, rtol=1e-4, msg=name
            )


@pytest.mark.parametrize("anchoring", [EXTENDED, AnchoringConfig()], ids=["extended", "plain"])
def test_beyond_the_recording_the_page_holds_as_the_player_does(tmp_path, anchoring):
    bundle = linear_bundle(anchoring)
    with torch.no_grad():  # some that are far too long
        bundle.avatar.per_gaussian["log_scales"][::7, 0] = math.log(0.03)
    export_web(bundle, tmp_path)
    arrays = read_arrays(tmp_path)
    gaussians = ClampedGaussians(arrays["seen.confidence"][0], arrays["seen.neighbours"].T.long())
    player = Player(read_back(bundle, tmp_path))
    avatar = ViewClampedAvatar(player, gaussians)
    rest = bundle.recording[0]
    frontal = bundle.default_camera.in_frame(rest.T_world_head)
    eyes = [
        turned(frontal, Angle(*angles)).center
        for angles in ((0, 0), (-38, 4), (17, -20), (24, 4), (60, 50))
    ]
    states = [bundle.recording[index] for index in range(5)]
    found = run_maths(
        tmp_path,
        task="clouds",
        states=[described(state) for state in states],
        eyes=[eye.tolist() for eye in eyes],
    )
    amounts = set()
    for state, eye, cloud in zip(states, eyes, found):
        expected = avatar.cloud(state, eye)
        directions = torch.nn.functional.normalize(expected.means - eye, dim=-1)
        pairs = {
            "logScales": expected.scales.log(),
            "colors": harmonics.evaluate(expected.sh, directions),
        }
        for name, value in pairs.items():
            torch.testing.assert_close(
                torch.tensor(cloud[name]).T, value, atol=1e-3, rtol=0, msg=name
            )
        held = RecordedViews(bundle).clamped(state, eye)
        amounts.add(round(float(held.amount(None)), 2))
        if held.head_outside > 0.1:
            plain = player.cloud(state, eye)
            assert (harmonics.evaluate(plain.sh, directions) - pairs["colors"]).abs().max() > 0.02
    assert {0.0, 1.0} < amounts  # and some between
    assert (gaussians.confidence < 1).any() and torch.tensor(
        found[-1]["logScales"]
    ).exp().max() > MAX_HIDDEN_M


def test_the_page_has_the_cones_and_what_the_recording_shows(tmp_path):
    bundle = linear_bundle()
    export_web(bundle, tmp_path)
    facts, arrays = (
        json.loads((tmp_path / "avatar.json").read_text())["seen"],
        read_arrays(tmp_path),
    )
    for name, cone in (("head", RecordedViews(bundle).head), ("body", RecordedViews(bundle).body)):
        assert facts[name] == {"low": cone.low.tolist(), "high": cone.high.tolist()}
    seen = ClampedGaussians.of(Player(bundle))
    torch.testing.assert_close(arrays["seen.confidence"][0], seen.confidence, atol=0.01, rtol=0)
    unsure = seen.confidence < 1
    assert 0 < unsure.sum() < len(unsure)
    assert torch.equal(
        arrays["seen.neighbours"].T[unsure].long(), seen.neighbours[unsure].sort(-1).values
    )


def test_quantisation_costs_little(tmp_path):
    bundle = linear_bundle()
    export_web(bundle, tmp_path)
    state, white = toys.random_states((), seed=3), torch.ones(3)
    pictures = [
        Player(b).step(state, None, white).rgb for b in (bundle, read_back(bundle, tmp_path))
    ]
    assert psnr(*pictures) > 50


def test_half_floats_are_rounded_as_numpy_rounds(tmp_path):
    export_web(linear_bundle(), tmp_path)
    sizes = 10.0 ** np.arange(-8, 2).repeat(40)
    values = np.concatenate([np.random.default_rng(0).normal(size=400) * sizes, [0, -0.0]])
    found = np.array(run_maths(tmp_path, task="halves", values=values.tolist()), np.uint16).view(
        np.float16
    )
    expected = values.astype(np.float32).astype(np.float16).astype(float)
    assert (np.abs(found.astype(float) - values) <= np.abs(expected - values) + 1e-12).all()


def take(rows: int = 5, drop: str = "", **columns) -> str:
    """A Live Link Face file at 60 frames a second over the turn of a second."""
    names = ["Timecode", "BlendShapeCount", *(n[0].upper() + n[1:] for n in ARKIT_EXPRESSIONS)]
    names += ["HeadYaw", "HeadPitch", "HeadRoll"]
    names = [name for name in names if name != drop]
    lines = [",".join(names)]
    for row in range(rows):
        frame = 58 + row
        values = {
            "Timecode": f"10:00:{frame // 60:02d}:{frame % 60:02d}.250",
            "BlendShapeCount": "61",
        }
        values |= {name: str(value[row]) for name, value in columns.items()}
        lines.append(",".join(values.get(name, "0") for name in names))
    return "\r\n".join(lines) + "\r\n"


def test_phone_captures_drive_it(tmp_path):
    export_web(linear_bundle(EXTENDED), tmp_path)
    text = take(JawOpen=[0, 0.2, 0.4, 0.6, 0.8], EyeLookOutLeft=[0.5] * 5, HeadYaw=[0.1] * 5)
    states = run_maths(tmp_path, task="curves", text="\ufeff" + text)
    assert [state["time"] for state in states] == pytest.approx(
        [i / 60 for i in range(5)], abs=1e-6
    )
    jaw = ARKIT_EXPRESSIONS.index("jawOpen")
    assert [state["expression"][jaw] for state in states] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8], abs=1e-6
    )
    # Half of 30° outwards: the left eye turns to the subject's left, about +y.
    assert states[0]["joints"] == pytest.approx(
        [math.cos(math.radians(7.5)), 0, math.sin(math.radians(7.5)), 0, 1, 0, 0, 0], abs=1e-5
    )
    neutral = toys.bundle(make("linear")).default_state.T_world_head
    turned = torch.tensor(states[0]["head"][:4])
    expected = matrices_to_quats(
        neutral[:3, :3] @ rotvecs_to_matrices(torch.tensor([0.0, 0.1, 0.0]))
    )
    assert abs(float(turned @ expected)) == pytest.approx(1, abs=1e-6)


def test_frames_that_the_phone_lost_stand_still(tmp_path):
    export_web(linear_bundle(EXTENDED), tmp_path)
    text = take(BlendShapeCount=[0, 61, 61, 0, 61], JawOpen=[0, 0.2, 0.4, 0, 0.8])
    jaw = ARKIT_EXPRESSIONS.index("jawOpen")
    found = [state["expression"][jaw] for state in run_maths(tmp_path, task="curves", text=text)]
    assert found == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.8], abs=1e-6)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            take(drop="JawOpen"),
            "take.csv, line 1: column jawOpen missing; expected the columns of Live Link Face",
        ),
        (
            take(JawOpen=[0, "x", 0, 0, 0]),
            'take.csv, line 3: column jawopen: expected a number, got "x"',
        ),
        (
            take(Timecode=["1"] * 5),
            'take.csv, line 2: column Timecode: expected HH:MM:SS:FF.fff, got "1"',
        ),
        (take(rows=0), "take.csv: holds no frames"),
        ("", "take.csv, line 1: column Timecode missing; expected the columns of Live Link Face"),
    ],
    ids=["column", "number", "timecode", "empty", "nothing"],
)
def test_bad_captures_are_named(tmp_path, text, message):
    export_web(linear_bundle(), tmp_path)
    assert run_maths(tmp_path, task="curves", text=text) == {"error": message}
