"""Reads a still image of any usual kind: upright, 8-bit RGB, with its alpha where it has one."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from likeness.preprocess.video import import_cv2
from likeness.scene.errors import UserError
from likeness.scene.image_files import load_image

_log = logging.getLogger(__name__)

KINDS = "JPEG, PNG, WebP, TIFF, BMP or HEIC"
_MAX_SIDE = 4096  # pixels of the long side that are kept: a face there is sharper than any capture
_MIN_SIDE = 64
_MAX_PIXELS = 400_000_000
# photographs have at most about 20; plain areas compress to 350 (PNG) at best
_PIXELS_PER_BYTE = 1000
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif")
_FOCAL_35MM = 0xA405  # EXIF FocalLengthIn35mmFilm
_EXIF_IFD = 0x8769


@dataclasses.dataclass(frozen=True)
class Still:
    """An image as it is looked at.

    rgb: uint8 [H, W, 3], upright. alpha: uint8 [H, W], or None where the image has none or it is
        opaque everywhere.
    focal_35mm: 35 mm equivalent focal length in millimetres by the file, or None. original: (width,
    height) upright, before a huge image was reduced. mode: of the file, as Pillow names it.
    """

    path: Path
    rgb: np.ndarray
    alpha: np.ndarray | None
    focal_35mm: float | None
    original: tuple[int, int]
    mode: str

    @property
    def width(self) -> int:
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        return self.rgb.shape[0]


def read_still(path: Path) -> Still:
    """Raises UserError for what is missing, no image, damaged, moving, smaller than 64 pixels, or
    beyond memory."""
    path = Path(path)
    _check_file(path)
    image, focal, mode, original = _opened(path)
    if min(original) < _MIN_SIDE:
        raise UserError(
            f"{path}: has {original[0]}x{original[1]} pixels; expected at least {_MIN_SIDE} on "
            "each side, and a face that fills a good part of it"
        )
    rgb, alpha = image[..., :3], image[..., 3] if image.shape[2] == 4 else None
    if alpha is not None and alpha.min() == 255:
        alpha = None
    elif alpha is not None and alpha.max() == 0:
        raise UserError(f"{path}: is transparent everywhere; save it with the person visible")
    return Still(path, rgb, alpha, focal, original, mode)


def _check_file(path: Path) -> None:
    if not path.is_file():
        problem = "is a folder; give one image" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {problem}")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    if not head:
        raise UserError(f"{path}: is empty; copy it again")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        _register_heif(path)


def _register_heif(path: Path) -> None:
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        raise UserError(
            f"{path}: is a HEIC image, which needs the package pillow-heif (pip install "
            "pillow-heif); or save it as JPEG or PNG"
        ) from None
    heif.register_heif_opener()


def _opened(path: Path) -> tuple[np.ndarray, float | None, str, tuple[int, int]]:
    """uint8 [H, W, 3 or 4], focal length, mode and full size of an image."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        # of large images: they are reduced below; beyond the bound they are refused
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise UserError(
                        f"{path}: has {image.width}x{image.height} pixels; reduce it to 8192 on a "
                        "side"
                    )
                if image.width * image.height > _most_pixels(path):
                    stated = f"{image.width}x{image.height} pixels in {path.stat().st_size} bytes"
                    raise UserError(
                        f"{path}: damaged ({stated}); copy it again, or save it anew as PNG"
                    )
                if getattr(image, "n_frames", 1) > 1 and image.format not in ("TIFF", "MPO"):
                    raise UserError(
                        f"{path}: holds {image.n_frames} moving images; give one still image"
                    )
                mode, focal = image.mode, _focal(image)
                sideways = image.getexif().get(0x0112, 1) >= 5
                original = image.size[::-1] if sideways else image.size
                # JPEG alone: decodes a huge one at a fraction
                image.draft("RGB", (_MAX_SIDE, _MAX_SIDE))
                upright = _bounded(ImageOps.exif_transpose(image))
                return np.asarray(_eight_bit(upright)), focal, mode, original
        except UserError:
            raise
        except Image.DecompressionBombError:
            raise UserError(
                f"{path}: is too large to be opened; reduce it to 8192 pixels on a side"
            ) from None
        except UnidentifiedImageError:
            return _by_opencv(path)
        except (OSError, ValueError, SyntaxError, EOFError, TypeError, MemoryError) as error:
            reason = " ".join(str(error).split())[:80]
            raise UserError(
                f"{path}: damaged ({reason}); copy it again, or save it anew as PNG"
            ) from None


def _bounded(image: Any) -> Any:
    """An image whose long side is at most _MAX_SIDE."""
    from PIL import Image

    if max(image.size) <= _MAX_SIDE:
        return image
    if image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        image = _eight_bit(image)
    scale = _MAX_SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _eight_bit(image: Any) -> Any:
    """The image as RGB or RGBA of 8 bits in sRGB."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 or 32 bits of grey
        values = np.asarray(image).astype(np.float32)
        full = 65535.0 if image.mode.startswith("I") else max(1.0, float(np.nanmax(values)))
        values = np.nan_to_num(values / full).clip(0, 1) * 255
        return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")
    image = _in_srgb(image)
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def _in_srgb(image: Any) -> Any:
    """Colours by the file's own profile, where it has one that can be used (CMYK and wide gamuts
    look dull else)."""
    import io

    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "RGBA"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        output = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode=output
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        _log.warning("the image's colour profile is damaged; its colours are taken for sRGB")
        return image


def _focal(image: Any) -> float | None:
    try:
        value = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM, 0))
    except (TypeError, ValueError, SyntaxError, OSError):
        return None
    return value if 8 <= value <= 1200 else None


def _most_pixels(path: Path) -> int:
    """Pixels that an image of a person in so many bytes can have; damaged headers state any
    number."""
    return min(_MAX_PIXELS, _PIXELS_PER_BYTE * path.stat().st_size)


def _by_opencv(path: Path) -> tuple[np.ndarray, None, str, tuple[int, int]]:
    """What Pillow does not know, such as 16-bit RGB in TIFF."""
    cv2 = import_cv2()
    array = load_image(path, cv2.IMREAD_UNCHANGED, _most_pixels(path))
    if array is None:
        raise UserError(f"{path}: no image that can be read; expected {KINDS}")
    if array.dtype == np.uint16:
        array = np.rint(array / 257.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        array = np.rint(np.nan_to_num(array).clip(0, 1) * 255).astype(np.uint8)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, -1)
    original = (array.shape[1], array.shape[0])
    scale = _MAX_SIDE / max(original)
    if scale < 1:
        array = cv2.resize(array, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    code = cv2.COLOR_BGRA2RGBA if array.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(array, code), None, "as stored", original
