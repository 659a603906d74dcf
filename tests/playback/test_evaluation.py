"""What a run says of its frames: the headline without their own sway, and beside it the figure with
it."""

from __future__ import annotations

import dataclasses

import torch

from likeness.fitting.evaluation import headline
from likeness.playback import evaluation
from likeness.playback.evaluation import evaluate_bundle, evaluate_frames, summary, table
from likeness.scene.lattice import NUM_POINTS
from tests import toys


def swaying(capture):
    """The capture with 2 cm of sway in every frame."""
    motion = torch.full((len(capture.frames), NUM_POINTS, 2), 0.02)
    return capture.with_states(dataclasses.replace(capture.states, secondary_motion=motion))


def test_the_headline_is_without_the_sway_of_the_frames(tmp_path):
    capture = toys.make_capture(tmp_path, frames=4, size=24, test=2)
    bundle, moved = toys.arkit_bundle(24), swaying(capture)
    still, with_motion = (evaluate_bundle(bundle, c, c.test).to_json() for c in (capture, moved))
    assert still["heldout"]["psnr"] != with_motion["heldout"]["psnr"]
    found = evaluate_frames(bundle, moved, moved.test)
    assert (
        found["headline"] == headline(still)
        and found["headline"]["psnr"] == still["heldout"]["psnr"]
    )
    assert found["unswayed"] == still and {key: found[key] for key in with_motion} == with_motion
    assert list(found)[0] == "headline"
    text = summary(found)
    assert text.startswith(f"held-out frames: PSNR {still['heldout']['psnr']:.2f} dB (face ")
    assert text.endswith(
        f"with the secondary motion tracked on them {with_motion['heldout']['psnr']:.2f} dB"
    )
    lines = table(found).splitlines()
    assert (
        "without their own secondary motion" in lines[0]
        and f"{still['heldout']['psnr']:.4g} dB" in lines[2]
    )
    assert lines[-1].endswith(f"{with_motion['heldout']['psnr']:.2f} dB")


def test_frames_without_sway_are_measured_once(tmp_path, monkeypatch):
    capture = toys.make_capture(tmp_path, frames=4, size=24, test=2)
    calls = []
    monkeypatch.setattr(
        evaluation, "evaluate_bundle", lambda *a, **k: calls.append(1) or evaluate_bundle(*a, **k)
    )
    found = evaluate_frames(toys.arkit_bundle(24), capture, capture.test)
    assert len(calls) == 1 and found["headline"] == headline(found)


def test_the_headline_of_older_files():
    old = {"heldout": {"psnr": 30.0}, "regions": {"face": {"psnr": 28.0}}}
    assert (
        headline(old)["psnr"] == 30.0
        and headline(old)["face"] == 28.0
        and headline(old)["mouth"] is None
    )
    assert headline({**old, "unswayed": {"heldout": {"psnr": 25.0}}})["psnr"] == 25.0
    assert set(headline({"heldout": None}).values()) == {None}
    assert summary({"headline": headline({})}) == "held-out frames: not measured"
