"""Images of a report: what they show, and how they get into the page (as base64 in data URIs)."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from likeness.fitting.image_regions import head_box
from likeness.fitting.images import to_uint8
from likeness.head_models import HEAD_MODELS
from likeness.scene.capture import Capture, TrackedFrame
from likeness.scene.errors import UserError
from likeness.scene.frame_images import load_rgba
from likeness.scene.image_files import load_image

WIDTH = 384  # pixels of an image in the page
_QUALITY = 86
_HEAD_WIDTH = 560  # pixels of a head with its mesh, before it is reduced for the page
_GREEN = np.array([0, 200, 0], np.float32)


def data_uri(image: np.ndarray, width: int = WIDTH) -> str:
    """An image [H, W, 3] (uint8, or in [0, 1]) as the address of a JPEG inside the page, at most
    ``width`` wide."""
    import cv2

    image = to_uint8(image)
    if image.shape[1] > width:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def read_image(path: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3]. Raises UserError when damaged."""
    import cv2

    image = load_image(path, cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: damaged image; run the evaluation again")
    return image[..., ::-1]


def on_green(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] over a colour that no skin, hair or wall has: shows what the matte wrongly
    keeps or cuts."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * alpha + _GREEN * (1 - alpha) + 0.5).astype(np.uint8)


class MeshOverlay:
    """Frames of a capture with the tracked mesh and the detector's landmarks drawn over them."""

    def __init__(self, capture: Capture) -> None:
        """Raises UserError when the capture's head model is not known, or is another version of
        it."""
        if capture.head_model not in HEAD_MODELS:
            raise UserError(
                f"the head model {capture.head_model!r} of the capture is not among "
                f"{list(HEAD_MODELS)}"
            )
        self._model = HEAD_MODELS[capture.head_model]()
        if tuple(self._model.expression_names) != tuple(capture.expression_names):
            raise UserError(
                f"the capture's expressions are not those of the head model {capture.head_model!r}"
            )
        self._shaped = self._model.shaped(capture.identity)

    def __call__(self, frame: TrackedFrame) -> np.ndarray:
        """uint8 [H', W', 3]: the head alone, enlarged, with the mesh's edges and the landmarks as
        dots."""
        import cv2

        from likeness.renderers.mesh import overlay

        image = np.ascontiguousarray(load_rgba(frame)[..., :3])
        mesh, camera = self._shaped.posed(frame.state), frame.camera
        in_head, faces = camera.in_frame(frame.state.T_world_head), self._model.skin_faces
        image = overlay(image, mesh.vertices, faces, in_head, alpha=0.4, wireframe=True)
        left, top, right, bottom = _square_around(head_box(frame), camera.width, camera.height)
        scale = _HEAD_WIDTH / max(right - left, 1)
        image = image[top:bottom, left:right]
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for x, y in ((frame.landmarks.numpy() - (left, top)) * scale).tolist():
            cv2.circle(image, (round(x), round(y)), 2, (255, 60, 60), -1, cv2.LINE_AA)
        return image


def _square_around(
    box: tuple[int, int, int, int], width: int, height: int
) -> tuple[int, int, int, int]:
    """The smallest square around a box, moved (and if need be cut) to lie inside the image."""
    left, top, right, bottom = box
    side = min(max(right - left, bottom - top, 16), width, height)
    left = min(max((left + right - side) // 2, 0), width - side)
    top = min(max((top + bottom - side) // 2, 0), height - side)
    return left, top, left + side, top + side
