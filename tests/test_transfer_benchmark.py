"""What benchmarks.transfer measures, on landmarks whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import transfer
from benchmarks.common import face_measures
from likeness.head_models.landmarks import LID_PAIRS

T = 120


def face(seed: int = 0) -> np.ndarray:
    """Landmarks [478, 2] of a face at rest, in distances of the eyes."""
    points = np.random.default_rng(seed).normal(0, 0.05, (478, 2)) + (0, 0.4)
    places = {33: (-0.5, 0), 263: (0.5, 0), 133: (-0.17, 0.02), 362: (0.17, 0.02)}
    places |= {168: (0, 0.0), 6: (0, 0.1), 2: (0, 0.5), 98: (-0.12, 0.45), 327: (0.12, 0.45)}
    places |= {13: (0, 0.7), 14: (0, 0.7), 61: (-0.27, 0.71), 291: (0.27, 0.71)}
    for index, place in places.items():
        points[index] = place
    return points


def performance(amount: float = 1.0, tremble: float = 0.0, seed: int = 0) -> np.ndarray:
    """The face [T, 478, 2] that opens its mouth by 0.2 and looks about by 0.05, times ``amount``,
    and closes its lips now and then."""
    t = np.arange(T)
    points = np.repeat(face(seed)[None], T, 0)
    points[:, 14, 1] += amount * 0.2 * np.clip(np.sin(t / 6), 0, None)
    for iris in (face_measures.LEFT_IRIS, face_measures.RIGHT_IRIS):
        points[:, iris, 0] += amount * 0.05 * np.sin(t / 9)
    return points + tremble * np.random.default_rng(1).normal(size=points.shape)


def in_image(points: np.ndarray) -> np.ndarray:
    """The same in pixels, as it is seen of a head that moves, rolls and turns."""
    t = np.arange(len(points))
    roll, turn = 0.2 * np.sin(t / 11), 1 - 0.2 * np.sin(t / 17) ** 2
    rotation = np.stack(
        [np.stack([np.cos(roll), -np.sin(roll)], -1), np.stack([np.sin(roll), np.cos(roll)], -1)], 1
    )
    shortened = points * np.stack([turn, np.ones_like(turn)], -1)[:, None]
    shift = np.stack([250 + 10 * np.sin(t / 7), 200 + t * 0.1], -1)
    return 150 * shortened @ rotation.transpose(0, 2, 1) + shift[:, None]


def seen(points: np.ndarray) -> np.ndarray:
    return face_measures.stabilised(in_image(points))[0]


def test_the_heads_motion_is_not_the_faces():
    # (up to the mean turn, which is the shape of this face)
    still = seen(performance(0.0))
    assert np.ptp(still, axis=0).max() < 1e-6
    lips = face_measures.features(seen(performance()))["lips"]
    assert np.ptp(lips) == pytest.approx(0.2 / 0.9, rel=0.05)


def test_range_and_correlation_of_what_arrives():
    driver = seen(performance())
    half = face_measures.transferred(driver, seen(performance(0.5)), driver)
    for name in ("lips", "gaze"):
        result = half[name]
        assert result is not None
        assert result["range"] == pytest.approx(0.5, abs=0.01) and result["correlation"] > 0.999
    assert half["brows"] is None  # the driver's do not move
    noisy = face_measures.transferred(driver, seen(performance(1.0, 0.03)), driver)["lips"]
    assert noisy is not None and noisy["correlation"] < 0.95


def test_lids_are_counted_in_open_eyes():
    """Narrow eyes that close are closed."""

    def blinking(height: float) -> np.ndarray:
        points = performance()
        closed = np.clip(3 * np.sin(np.arange(T) / 5) - 2, 0, 1)
        for (high, low), *_ in LID_PAIRS.values():
            points[:, high] = points[:, low] = (0, 0)
            points[:, low, 1] += height * (1 - closed)
        return seen(points)

    wide, narrow = blinking(0.1), blinking(0.06)
    lids = face_measures.transferred(wide, narrow, narrow)["lids"]
    assert lids is not None and lids["range"] == pytest.approx(1, abs=0.02)
    assert lids["correlation"] > 0.99


def test_lips_are_closed_where_the_drivers_are():
    driver, ajar = performance(), performance()
    ajar[:, 14, 1] += 0.06
    assert face_measures.lips_closed(seen(driver), seen(driver)) == 1
    assert face_measures.lips_closed(seen(driver), seen(ajar)) == 0
    assert face_measures.lips_closed(seen(ajar), seen(driver)) is None


def test_flicker_is_what_trembles_beyond_the_driver():
    driver = seen(performance(1.0, 0.002))
    calm = face_measures.calm(driver)
    assert len(calm) == T - 2 and abs(calm.mean() - 0.5) < 0.02
    assert face_measures.flicker(driver, driver, calm) == 1
    trembling = face_measures.flicker(driver, seen(performance(1.0, 0.006)), calm)
    assert trembling == pytest.approx(3, rel=0.2)


def test_sudden_expressions_are_no_flicker():
    clean = performance(1.0, 0.002)
    sudden = clean.copy()
    sudden[40:42, 14, 1] += 3.0
    driver = seen(sudden)
    assert face_measures.flicker(driver, seen(clean), face_measures.calm(driver)) == pytest.approx(
        1, abs=0.05
    )


def test_identity_is_the_shape_at_rest():
    own, driver = seen(performance(seed=0)), seen(performance(0.7, seed=1))
    assert face_measures.identity_distance(own, driver, seen(performance(0.5))) < 0.05
    assert face_measures.identity_distance(own, driver, driver) == 1
    between = (own + driver) / 2
    assert face_measures.identity_distance(own, driver, between) == pytest.approx(0.5, abs=0.1)


def test_faces_stand_still_in_their_crops():
    points = in_image(performance(0.0))
    images = []
    for frame in points:
        image = np.zeros((400, 500, 3), np.uint8)
        x, y = frame[2].round().astype(int)
        image[y - 8 : y + 9, x - 8 : x + 9] = 255
        images.append(image)
    crops = face_measures.crops(images, face_measures.stabilised(points)[1])
    centres = [np.argwhere(crop > 0.5).mean(0) for crop in crops]
    assert np.ptp(centres, axis=0).max() < 1.5


def test_the_table_has_means_of_what_was_measured():
    def row(driver: str, avatar: str, lips: float | None) -> dict:
        known = None if lips is None else {"range": lips, "correlation": 0.9}
        features = dict.fromkeys(face_measures.FEATURES) | {"lips": known}
        mesh = features | {"lips": None if known is None else known | {"range": 2 * known["range"]}}
        figures = {"closed": None, "flicker": 1.0, "pixel_flicker": 0.5, "identity": 0.25}
        return figures | {
            "driver": driver,
            "avatar": avatar,
            "frames": 10,
            "without_face": 1,
            "features": features,
            "mesh": mesh,
        }

    lines = transfer.markdown([row("a", "b", 0.6), row("b", "a", 1.0), row("a", "a", None)])
    mean, on_mesh = (line for line in lines.splitlines() if "pairs, mean" in line)
    assert "| 1.60 / 0.90 | – |" in on_mesh
    assert "| 0.80 / 0.90 | – |" in mean and mean.endswith("| 20 | 2 |")
    assert "| a itself, held out | – |" in lines
