"""The exported page in a real Chromium with a software renderer: it shows the player's picture and
can be driven."""

from __future__ import annotations

import base64
import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from likeness.export.web import export_web
from likeness.fitting.metrics import psnr
from likeness.playback.player import Player
from likeness.playback.view_clamp.views import RecordedViews
from likeness.playback.views.trajectories import Angle, in_world, turned
from likeness.scene.transforms import matrices_to_quats
from tests import toys
from tests.playback.chromium import Chromium, serve
from tests.playback.test_web import take
from tests.playback.web_toys import JAW, described, linear_bundle

WHITE = torch.ones(3)
SIZE = 160


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The bundle, the browser with the page open and ready, and its address."""
    folder = tmp_path_factory.mktemp("web")
    bundle = linear_bundle(size=SIZE, hidden_layers=0)
    with torch.no_grad():  # to change with the direction as much as avatars of real people
        bundle.avatar.per_gaussian["base_looks"][:, 4:] *= 4
    export_web(bundle, folder)
    browser = Chromium()
    server, address = serve(folder)
    yield SimpleNamespace(bundle=bundle, browser=browser, address=address, folder=folder)
    browser.close()
    server.shutdown()


@pytest.fixture
def opened(page):
    page.browser.ask("open", url=page.address, width=900, height=600)
    page.browser.evaluate("avatar.ready")
    return page


def camera_of(camera) -> dict:
    return {name: getattr(camera, name).tolist() for name in ("K", "T_cam_world")} | {
        "width": camera.width,
        "height": camera.height,
    }


def shown(browser) -> torch.Tensor:
    """The canvas [H, W, 3] as it is on the screen, sorted."""
    data = base64.b64decode(browser.evaluate("avatar.picture()").split(",")[1])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (pixels[..., 3] == 255).all() if pixels.shape[2] == 4 else True
    return torch.from_numpy(pixels[..., 2::-1].astype(np.float32) / 255)


def fix_camera(opened, camera) -> None:
    opened.browser.evaluate("(camera) => avatar.setCamera(camera)", camera_of(camera))


def clean(browser, address: str) -> None:
    """Nothing was complained about, and nothing was asked of anyone else."""
    record = browser.ask("log")
    assert record["log"] == []
    outside = [
        url
        for url in record["requests"]
        if not url.startswith((address, "blob:" + address, "data:"))
    ]
    assert outside == [] and len(record["requests"]) > 8


def test_shows_the_players_picture(opened):
    """States, cameras (with a shifted principal point) and backgrounds: at least 35 dB, and the
    right way round."""
    player = Player(opened.bundle)
    states = toys.random_states((2,), seed=5)
    cameras = [toys.camera(SIZE), toys.camera(SIZE).cropped(12, -9, SIZE + 32, SIZE - 12)]
    for state, camera, color in zip((states[0], states[1]), cameras, ("#ffffff", "#336699")):
        opened.browser.evaluate("(state) => avatar.setState(state)", described(state))
        opened.browser.evaluate("(color) => avatar.setBackground(color)", color)
        fix_camera(opened, camera)
        behind = torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        expected = player.step(state, camera, behind).rgb.clamp(0, 1)
        found = shown(opened.browser)
        assert found.shape == expected.shape
        assert psnr(found, expected) > 45  # 35 asked for; lower than this something is wrong
        assert psnr(found.flip(1), expected) < 30
    clean(opened.browser, opened.address)


def test_beyond_the_recording_it_is_held_as_the_player_holds_it(opened):
    """From 36° beside, of a head that looks straight ahead and of one that is turned away; then
    back again."""
    player, state = Player(opened.bundle), opened.bundle.recording[2]
    frontal = opened.bundle.default_camera.in_frame(state.T_world_head)
    views = [
        in_world(turned(frontal, Angle(*angles)), state.T_world_head)
        for angles in ((36, 0), (-30, 12), (0, 0))
    ]
    opened.browser.evaluate("(state) => avatar.setState(state)", described(state))
    for camera in views:
        fix_camera(opened, camera)
        expected, plain = (
            player.step(state, camera, WHITE, clamp_views=clamp).rgb.clamp(0, 1)
            for clamp in (True, False)
        )
        found = shown(opened.browser)
        assert psnr(found, expected) > 42  # 35 asked for
        beyond = (
            RecordedViews(opened.bundle)
            .clamped(state, camera.in_frame(state.T_world_head).center)
            .is_outside
        )
        assert beyond == (camera is not views[-1])
        assert (psnr(found, plain) < psnr(found, expected) - 3) == beyond
    clean(opened.browser, opened.address)


def test_moving_the_jaw_slider_changes_the_mouth_alone(opened):
    fix_camera(opened, toys.camera(SIZE))
    before = shown(opened.browser)
    slider = '#sliders input[data-name="jawOpen"]'
    assert opened.browser.evaluate(f"document.querySelector('{slider}').closest('details').open")
    opened.browser.evaluate(
        f"(() => {{const s = document.querySelector('{slider}'); s.value = 1;"
        " s.dispatchEvent(new Event('input')); return avatar.settled()})()"
    )
    change = (shown(opened.browser) - before).abs().mean(-1)
    assert change[SIZE // 2 :].max() > 0.2
    expression = opened.browser.evaluate("avatar.state().expression")
    assert 0.5 < expression[JAW] <= 1 and sum(abs(value) for value in expression) == expression[JAW]
    # The soft limit of what was seen: exactly the player's picture at that value.
    neutral = opened.bundle.default_state
    state = dataclasses.replace(neutral, expression=torch.tensor(expression))
    assert (
        psnr(
            shown(opened.browser),
            Player(opened.bundle).step(state, toys.camera(SIZE), WHITE).rgb.clamp(0, 1),
        )
        > 43  # eight bits a channel, and a mouth that is wide open
    )
    # What is above the mouth changes less: there are the rig's own displacements only.
    assert change[: SIZE // 3].mean() < 0.5 * change[SIZE // 2 :].mean()
    clean(opened.browser, opened.address)


def test_has_a_slider_for_every_expression(opened):
    count = opened.browser.evaluate("document.querySelectorAll('#sliders input[data-name]').length")
    assert count == 52 + 3  # and three for the head


def test_plays_and_scrubs_the_recording(opened):
    opened.browser.evaluate(
        "(() => { const s = document.getElementById('scrub'); s.step = 'any'; s.value = 0.12;"
        " s.dispatchEvent(new Event('input')); return avatar.settled(); })()"
    )
    recorded = opened.bundle.recording[3]
    found = opened.browser.evaluate("avatar.state()")
    assert found["expression"] == pytest.approx(recorded.expression.tolist(), abs=2e-4)
    assert found["head"][4:] == pytest.approx(recorded.T_world_head[:3, 3].tolist(), abs=1e-5)
    opened.browser.evaluate("document.getElementById('play').click()")
    assert opened.browser.evaluate("avatar.sequence()")["playing"]
    opened.browser.evaluate("new Promise((done) => setTimeout(done, 300))")
    moved = opened.browser.evaluate("avatar.state()")
    assert moved["expression"] != found["expression"]
    clean(opened.browser, opened.address)


def test_a_dropped_capture_drives_it(opened):
    text = take(JawOpen=[0.9] * 5, HeadYaw=[0.2] * 5)
    opened.browser.ask("drop", name="take.csv", text=text)
    opened.browser.evaluate("new Promise((done) => setTimeout(done, 400))")
    assert opened.browser.evaluate("avatar.sequence()")["name"] == "take.csv"
    found = opened.browser.evaluate("avatar.state()")
    assert found["expression"][JAW] > 0.5
    neutral = opened.browser.evaluate("avatar.facts.state.T_world_head")
    assert found["head"][4:] == pytest.approx([row[3] for row in neutral[:3]], abs=1e-6)
    clean(opened.browser, opened.address)
    opened.browser.ask("drop", name="bad.csv", text=take(drop="JawOpen"))
    opened.browser.evaluate("new Promise((done) => setTimeout(done, 300))")
    notice = opened.browser.evaluate("document.getElementById('notice').textContent")
    assert notice.startswith("bad.csv, line 1: column jawOpen missing")


def test_the_webcam_says_what_is_missing(opened):
    opened.browser.evaluate("document.getElementById('webcam').click()")
    opened.browser.evaluate("new Promise((done) => setTimeout(done, 500))")
    notice = opened.browser.evaluate("document.getElementById('notice').textContent")
    assert "MediaPipe is not beside this page (mediapipe/vision_bundle.mjs is missing)" in notice


MEDIAPIPE = """
export const FilesetResolver = { forVisionTasks: async (folder) => folder };
const still = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, -50, 1];
// column by column, about +y
const turned = [0.96, 0, -0.28, 0, 0, 1, 0, 0, 0.28, 0, 0.96, 0, 0, 0, -50, 1];
let calls = 0;
export const FaceLandmarker = { createFromOptions: async () => ({
  detectForVideo: (video) => (video.videoWidth ? {
    faceBlendshapes: [{ categories: [
      { categoryName: "jawOpen", score: 0.7 }, { categoryName: "_neutral", score: 1 }] }],
    facialTransformationMatrixes: [{ data: calls++ ? turned : still }],
  } : { faceBlendshapes: [] }),
  close: () => {},
}) };
"""


def test_follows_the_webcam_where_mediapipe_is_beside_it(page, tmp_path):
    """With a stand-in for MediaPipe: its coefficients drive the face, its matrices turn the
    head."""
    export_web(page.bundle, tmp_path)
    (tmp_path / "mediapipe").mkdir()
    (tmp_path / "mediapipe" / "vision_bundle.mjs").write_text(MEDIAPIPE)
    (tmp_path / "mediapipe" / "face_landmarker.task").write_text("not read by the stand-in")
    server, address = serve(tmp_path)
    page.browser.ask("open", url=address, width=300, height=300)
    page.browser.evaluate("avatar.ready")
    page.browser.evaluate("document.getElementById('webcam').click()")
    page.browser.evaluate("new Promise((done) => setTimeout(done, 1500))")
    found = page.browser.evaluate("avatar.state()")
    notice = page.browser.evaluate("document.getElementById('notice').textContent")
    page.browser.evaluate("document.getElementById('webcam').click()")
    server.shutdown()
    assert notice == "" and 0.4 < found["expression"][JAW] <= 0.7
    rest = page.bundle.default_state.T_world_head[:3, :3]
    turn = torch.tensor([[0.96, 0, 0.28], [0, 1, 0], [-0.28, 0, 0.96]])
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    expected = matrices_to_quats(flip @ turn @ flip @ rest)
    assert abs(float(torch.tensor(found["head"][:4]) @ expected)) == pytest.approx(1, abs=1e-4)
    assert page.browser.ask("log")["log"] == []


def test_turns_with_the_mouse_within_limits(page):
    opened = page
    page.browser.ask("open", url=page.address, width=600, height=240)
    page.browser.evaluate("avatar.ready")
    before = shown(opened.browser)
    opened.browser.ask("drag", **{"from": [100, 100], "to": [150, 100]})
    opened.browser.evaluate("avatar.settled()")
    turned = shown(opened.browser)
    assert (turned - before).abs().mean() > 0.01
    for _ in range(2):
        opened.browser.ask("drag", **{"from": [10, 100], "to": [250, 100]})
    at_limit = shown(opened.browser)
    opened.browser.ask("drag", **{"from": [10, 100], "to": [250, 100]})
    assert (shown(opened.browser) - at_limit).abs().max() < 0.02
    opened.browser.evaluate("document.getElementById('home').click()")
    assert (shown(opened.browser) - before).abs().max() < 0.05
    clean(opened.browser, opened.address)


def test_fits_a_phone(page):
    page.browser.ask("open", url=page.address, width=390, height=844, touch=True)
    page.browser.evaluate("avatar.ready")
    box = page.browser.evaluate(
        "document.getElementById('canvas').getBoundingClientRect().toJSON()"
    )
    assert box["width"] == 390 and 300 < box["height"] < 600
    assert page.browser.evaluate("document.documentElement.scrollWidth") == 390
    assert (
        page.browser.evaluate(
            "document.querySelector('#sliders input').getBoundingClientRect().right"
        )
        <= 390
    )
    clean(page.browser, page.address)


def test_a_damaged_avatar_is_said_to_be_one(page, tmp_path):
    export_web(page.bundle, tmp_path)
    import gzip

    content = gzip.decompress((tmp_path / "avatar.bin").read_bytes())
    (tmp_path / "avatar.bin").write_bytes(content[: len(content) // 2])
    server, address = serve(tmp_path)
    page.browser.ask("open", url=address)
    page.browser.evaluate("avatar.ready.catch(() => 0)")
    notice = page.browser.evaluate("document.getElementById('notice').textContent")
    server.shutdown()
    assert "damaged or cut off; export the avatar again" in notice
