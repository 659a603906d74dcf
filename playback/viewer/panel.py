"""The panel beside the image: sliders, recording, view, tuning. It knows viser's widgets, and
applies them to a display.

Widgets call back at once when the program sets them, too; then no browser is named.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.playback.face_parts import grouped
from likeness.playback.viewer.display import Display
from likeness.playback.viewer.saving import png, save_tuned
from likeness.playback.viewer.transport import SPEEDS
from likeness.scene.errors import UserError
from likeness.scene.expression_tuning import ExpressionTuning

SIZES = (256, 384, 512, 768, 1024)
_SLOWEST_SYNC = 5  # frames of the recording between moves of its slider
MAX_TEXT = 300  # characters of the line at the top
_NEUTRAL, _GAIN = (-0.5, 0.5), (0.0, 2.0)


def as_markdown(text: str) -> str:
    """Plain text as Markdown that shows it, whatever is in it: names of folders, texts of files.

    viser's page shows HTML in Markdown as it is, and its server puts files of this machine into
    images' places. So all but letters, digits and spaces become character references, and so does
    the first character (a list's number, a word of JavaScript); long texts are cut.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_TEXT]).split())
    return "".join(
        c if at and (c.isalnum() or c == " ") else f"&#{ord(c)};" for at, c in enumerate(line)
    )


class Panel:
    """Widgets of a viser server. All browsers share them."""

    def __init__(
        self,
        viser: Any,
        display: Display,
        names: list[str],
        folders: list[Path],
        latest: Callable[[Any], np.ndarray | None],
    ) -> None:
        """names, folders: of each avatar, to be read and to save new bundles into; without folders
        nothing is saved.
        latest: the last image of a browser by its key."""
        self._gui, self._display, self._latest = viser.gui, display, latest
        self._names, self._folders = names, folders
        self._sliders: dict[int, Any] = {}
        self._text = self._gui.add_markdown(as_markdown(" | ".join(names)))
        tabs = self._gui.add_tab_group()
        with tabs.add_tab("Face"):
            self._add_sliders()
        with tabs.add_tab("Recording"):
            self._add_recording()
        with tabs.add_tab("View"):
            self._add_view()
        with tabs.add_tab("Tuning"):
            self._add_tuning()

    def say(self, text: str) -> None:
        """The line at the top."""
        self._text.content = as_markdown(text)

    def show_frame(self, frame: int) -> None:
        """Moves the recording's slider to a frame."""
        if (
            abs(frame - self._position.value) >= _SLOWEST_SYNC
            or not self._display.transport.playing
        ):
            self._position.value = frame

    # Face

    def _add_sliders(self) -> None:
        self._gui.add_button("All to rest").on_click(
            lambda _: self._set_sliders(torch.zeros(len(self._display.names)))
        )
        for part, controls in grouped(self._display.names).items():
            with self._gui.add_folder(part, expand_by_default=False):
                for control in controls:
                    highest = float(self._display.ranges[1, control.index])
                    hint = f"{control.name}; the recording reached {highest:.2f}"
                    slider = self._gui.add_slider(control.label, 0.0, 1.0, 0.01, 0.0, hint=hint)
                    slider.on_update(self._slider_moved(control.index))
                    self._sliders[control.index] = slider

    def _slider_moved(self, index: int) -> Callable[[Any], None]:
        def moved(event: Any) -> None:
            if event.client_id is not None:
                self._display.set_slider(index, float(event.target.value))

        return moved

    def _set_sliders(self, values: torch.Tensor) -> None:
        for index, slider in self._sliders.items():
            slider.value = float(values[index].clamp(0, 1))
        self._display.update(sliders=values.clone())

    # Recording

    def _add_recording(self) -> None:
        display, last = self._display, len(self._display.transport) - 1
        self._recording = self._gui.add_checkbox(
            "Show the recording", display.settings.recording, hint="the face sliders add to it"
        )
        self._recording.on_update(lambda event: display.update(recording=bool(event.target.value)))
        self._gui.add_button("Play or pause").on_click(lambda _: self._toggle())
        self._position = self._gui.add_slider("Frame", 0, max(last, 1), 1, 0)
        self._position.on_update(self._scrub)
        speed = self._gui.add_dropdown("Speed", [f"{s:g}x" for s in SPEEDS], initial_value="1x")
        speed.on_update(
            lambda event: display.control(
                lambda t, now: t.set_speed(float(event.target.value[:-1]), now)
            )
        )
        still = self._gui.add_checkbox("Hold the head still", False)
        still.on_update(lambda event: display.update(still=bool(event.target.value)))
        copy = self._gui.add_button("Copy this face to the sliders", hint="and leave the recording")
        copy.on_click(lambda _: self._copy_face())

    def _toggle(self) -> None:
        self._recording.value = True
        self._display.control(lambda t, now: t.pause(now) if t.playing else t.play(now))

    def _scrub(self, event: Any) -> None:
        if event.client_id is not None:
            self._recording.value = True
            self._display.control(lambda t, now: t.scrub(int(event.target.value), now))

    def _copy_face(self) -> None:
        face = self._display.expression()
        self._display.control(lambda t, now: t.pause(now))
        self._recording.value = False
        self._set_sliders(face)

    # Viewpoint

    def _add_view(self) -> None:
        display = self._display
        sizes = sorted({*SIZES, display.settings.size})
        texts, initial = [str(s) for s in sizes], str(display.settings.size)
        hint = "pixels; smaller is faster"
        size = self._gui.add_dropdown("Image height", texts, initial_value=initial, hint=hint)
        size.on_update(lambda event: display.update(size=int(event.target.value)))
        colour = self._gui.add_rgb(
            "Background", tuple(round(255 * c) for c in display.settings.background)
        )
        colour.on_update(
            lambda event: display.update(background=tuple(c / 255 for c in event.target.value))
        )
        self._gui.add_button("Screenshot").on_click(self._screenshot)

    def _screenshot(self, event: Any) -> None:
        image = self._latest(event.client_id)
        if image is not None and event.client is not None:
            event.client.send_file_download(
                f"{self._names[0]}.png", png(image), save_immediately=True
            )

    # Tuning

    def _add_tuning(self) -> None:
        self._labels = {
            c.label: c.index for controls in grouped(self._display.names).values() for c in controls
        }
        choices = [f"{'left' if i == 0 else 'right'}: {name}" for i, name in enumerate(self._names)]
        self._whose = self._gui.add_dropdown(
            "Avatar", choices, initial_value=choices[0], visible=len(choices) > 1
        )
        self._which = self._gui.add_dropdown(
            "Expression", list(self._labels), initial_value=next(iter(self._labels))
        )
        self._neutral = self._gui.add_slider(
            "Neutral", *_NEUTRAL, 0.01, 0.0, hint="added to it at rest and always"
        )
        self._gain = self._gui.add_slider("Gain", *_GAIN, 0.01, 1.0, hint="how strongly it shows")
        for widget in (self._whose, self._which):
            widget.on_update(lambda _: self._read_tuning())
        for widget in (self._neutral, self._gain):
            widget.on_update(self._write_tuning)
        face = self._gui.add_button(
            "Make this face the neutral", hint="the face of this moment becomes the rest"
        )
        face.on_click(lambda _: self._take_neutral())
        self._gui.add_button("Undo all tuning").on_click(lambda _: self._reset_tuning())
        if self._folders:
            self._name = self._gui.add_text("Name", "bundle-tuned")
            self._gui.add_button("Save as new bundle").on_click(self._save)
        self._read_tuning()

    def _avatar(self) -> int:
        return self._whose.options.index(self._whose.value)

    def _index(self) -> int | None:
        """The chosen expression in the chosen avatar's own list."""
        name = self._display.names[self._labels[self._which.value]]
        names = self._display.bundles[self._avatar()].expression_names
        return names.index(name) if name in names else None

    def _read_tuning(self) -> None:
        index, tuning = self._index(), self._display.settings.tunings[self._avatar()]
        self._neutral.disabled = self._gain.disabled = index is None
        if index is not None:
            self._neutral.value = min(max(float(tuning.neutral[index]), _NEUTRAL[0]), _NEUTRAL[1])
            self._gain.value = min(max(float(tuning.gains[index]), _GAIN[0]), _GAIN[1])

    def _write_tuning(self, event: Any) -> None:
        index = self._index()
        if event.client_id is None or index is None:
            return
        tuning = self._display.settings.tunings[self._avatar()]
        neutral, gains = tuning.neutral.clone(), tuning.gains.clone()
        changed = neutral if event.target is self._neutral else gains
        changed[index] = event.target.value
        self._display.set_tuning(self._avatar(), ExpressionTuning(neutral, gains))

    def _take_neutral(self) -> None:
        self._display.set_tuning(
            self._avatar(), self._display.with_this_face_at_rest(self._avatar())
        )
        self._recording.value = False
        self._set_sliders(torch.zeros(len(self._display.names)))
        self._read_tuning()

    def _reset_tuning(self) -> None:
        avatar = self._avatar()
        count = len(self._display.bundles[avatar].expression_names)
        self._display.set_tuning(avatar, ExpressionTuning.identity(count))
        self._read_tuning()

    def _save(self, event: Any) -> None:
        avatar = self._avatar()
        try:
            tuning = self._display.settings.tunings[avatar]
            where = save_tuned(
                self._display.bundles[avatar], tuning, self._folders[avatar], self._name.value
            )
            title, text, colour = "Saved", str(where), "green"
        except UserError as error:
            title, text, colour = "Not saved", str(error), "red"
        if event.client is not None:
            event.client.add_notification(title, text, color=colour)
