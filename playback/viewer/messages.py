"""What a browser may say to the viewer: where it looks from, and new values of the panel's widgets.

Messages are checked before viser sees them, which takes any: kinds, fields, types, bounds. Kinds
that the viewer has no use for are left out (viser's own page sends some); a message that is none,
or not what its kind says, is malformed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

MAX_BYTES = 1 << 16
"""Of one message. The panel's longest is a text of MAX_TEXT characters."""
MAX_TEXT = 200
_TOLERANCE = 1e-6  # of a slider's range: what JavaScript's numbers may lie beside its ends

Metres = Annotated[float, msgspec.Meta(ge=-1e4, le=1e4)]
Unit = Annotated[float, msgspec.Meta(ge=-1.001, le=1.001)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
Vector = tuple[Metres, Metres, Metres]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Value = bool | int | float | Text | Annotated[list[int | float], msgspec.Meta(max_length=4)] | None


class Malformed(ValueError):
    """The message is not one. Its text says why, for the program's log."""


class Kind(msgspec.Struct):
    """What every message says of itself."""

    type: Annotated[str, msgspec.Meta(max_length=64)]


class Camera(msgspec.Struct):
    """viser's ViewerCameraMessage: rotation as unit quaternion, metres, radians, pixels."""

    wxyz: tuple[Unit, Unit, Unit, Unit]
    position: Vector
    fov: Annotated[float, msgspec.Meta(gt=1e-3, lt=3.1)]
    near: Annotated[float, msgspec.Meta(ge=0)]
    far: Annotated[float, msgspec.Meta(ge=0)]
    image_height: Pixels
    image_width: Pixels
    look_at: Vector
    up_direction: Vector


class Update(msgspec.Struct):
    """viser's GuiUpdateMessage: new values of properties of a widget."""

    uuid: Annotated[str, msgspec.Meta(max_length=64)]
    updates: Annotated[dict[Text, Value], msgspec.Meta(max_length=4)]


def wanted(raw: str | bytes, widget: Callable[[str], Any]) -> bool:
    """Whether a message is for the viewer and sound; one for nobody, or whose value its widget
    cannot have, is not.

    widget: a widget of viser by its uuid, None where it is gone. Raises Malformed.
    """
    if isinstance(raw, str):
        raise Malformed("a text, expected MessagePack")
    kind = _decoded(raw, Kind).type
    if kind == "ViewerCameraMessage":
        camera = _decoded(raw, Camera)
        numbers = (*camera.wxyz, *camera.position, *camera.look_at, *camera.up_direction)
        if not all(map(math.isfinite, (*numbers, camera.fov))) or math.hypot(*camera.wxyz) < 0.5:
            raise Malformed("a camera that is no place to look from")
        return True
    if kind == "GuiUpdateMessage":
        update = _decoded(raw, Update)
        target = widget(update.uuid)
        return (
            target is not None
            and set(update.updates) == {"value"}
            and suits(target, update.updates["value"])
        )
    return False


def suits(widget: Any, value: Any) -> bool:
    """Whether a widget of viser can have a value that a browser sends."""
    if hasattr(widget, "options"):
        return isinstance(value, str) and value in widget.options
    current = widget.value
    if isinstance(current, (bool, str)):
        return type(value) is type(current)
    if isinstance(current, tuple):  # the colour
        return (
            isinstance(value, list)
            and len(value) == len(current)
            and all(_is_number(number) and 0 <= number <= 255 for number in value)
        )
    if not _is_number(value) or not hasattr(widget, "min"):
        return False
    slack = _TOLERANCE * (widget.max - widget.min)
    return widget.min - slack <= value <= widget.max + slack


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _decoded(raw: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
        raise Malformed(str(error) or type(error).__name__) from None
