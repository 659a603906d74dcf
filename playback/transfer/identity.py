"""Whether two images show the same person: embeddings of faces by a network from the user's own
file.

Any network of ArcFace's kind (Deng et al. 2019) in an ONNX file: one input [1, 3, 112, 112], RGB in
[-1, 1], of a face aligned by its five points; one output, the embedding. OpenCV runs it; nothing in
such a file is executed as code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from likeness.scene.errors import UserError

SIDE = 112
# Where ArcFace's training images have the eyes (the subject's right one first), nose and mouth's
# corners, in pixels.
TEMPLATE = np.array(
    [[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]], np.float32
)
# FaceMesh's landmarks for them: corners of each eye, the nose's tip, corners of the mouth.
_POINTS = ((33, 133), (362, 263), (4,), (61,), (291,))


class IdentityModel:
    """Embeddings of unit length by the network in an ONNX file."""

    def __init__(self, path: Path) -> None:
        import cv2

        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: no such file; expected a network for face identity (ONNX)")
        try:
            self._network = cv2.dnn.readNetFromONNX(str(self.path))
            probe = self._run(np.zeros((SIDE, SIDE, 3), np.uint8))
        except cv2.error as error:
            reason = " ".join(str(error.err or error).split())[:160]
            raise UserError(
                f"{path}: OpenCV cannot run it as a network for face identity of one image [1, 3, "
                f"112, 112] ({reason}); give another ONNX file of ArcFace's kind"
            ) from None
        if probe.size < 8:
            raise UserError(
                f"{path}: gives {probe.size} numbers for a face; expected an embedding (mostly 512)"
            )

    def __call__(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The embedding [D] of the face in an image [H, W, 3] uint8 RGB with FaceMesh's landmarks
        [478, 2]."""
        vector = self._run(aligned(image, landmarks))
        return vector / max(float(np.linalg.norm(vector)), 1e-9)

    def _run(self, face: np.ndarray) -> np.ndarray:
        import cv2

        self._network.setInput(
            cv2.dnn.blobFromImage(face.astype(np.float32), 1 / 127.5, mean=(127.5, 127.5, 127.5))
        )
        return self._network.forward().astype(np.float64).ravel()


def aligned(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face [112, 112, 3] uint8, moved by the similarity transform that brings its five points
    nearest to the template's (Umeyama 1991)."""
    import cv2
    from skimage.transform import estimate_transform

    points = np.stack([landmarks[list(group)].mean(0) for group in _POINTS])
    matrix = estimate_transform("similarity", points, TEMPLATE).params[:2]
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
