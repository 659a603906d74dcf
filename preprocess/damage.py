"""Which parts of a video's stream are damaged, by what the decoder says of each frame.

Decoders conceal what they cannot read: they put in the frame before, and go on. OpenCV gives such
frames as if they were sound, and so all that are predicted from them up to the next key frame. PyAV
passes on the decoder's own marks.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

from likeness.scene.foreign_paths import utf8_path

_log = logging.getLogger(__name__)


def damaged_spans(path: Path) -> list[tuple[float, float]]:
    """Spans [from, to) of damaged frames in seconds from the first frame, in order; the last may
    end at infinity.

    A span begins with the first frame that is predicted from a damaged one, and ends with the next
    key frame. Costs another decoding, 0.6 ms a frame at 480². Empty for files that PyAV cannot
    open.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        _log.warning(
            "damaged frames cannot be told from sound ones: the package av cannot be imported (%s)",
            error,
        )
        return []
    # time and whether it is a key frame, in the order of decoding
    packets: list[tuple[int, bool]] = []
    damaged: set[int] = set()
    unit = 0.0
    try:
        with utf8_path(path) as name, av.open(name) as container:
            stream = container.streams.video[0]
            unit = float(stream.time_base)
            for packet in container.demux(stream):
                time = packet.pts if packet.pts is not None else packet.dts
                if time is not None:
                    packets.append((time, packet.is_keyframe))
                try:
                    frames = packet.decode()
                except FFmpegError:
                    frames, corrupt = [], True
                else:
                    corrupt = packet.is_corrupt
                damaged |= {
                    frame.pts for frame in frames if frame.is_corrupt and frame.pts is not None
                }
                if corrupt and time is not None:
                    damaged.add(time)
    except (FFmpegError, IndexError):
        # the end of what can be read; a file that has none is reported by who reads its frames
        pass
    return _spans(packets, damaged, unit) if packets else []


def describe(spans: list[tuple[float, float]], duration_s: float) -> str:
    """Spans of damage in words, such as ``from 2.7 to 4.1 s and from 6.0 s on``."""
    words = [
        f"from {begin:.1f} s on" if end >= duration_s else f"from {begin:.1f} to {end:.1f} s"
        for begin, end in spans
    ]
    return " and ".join(
        words if len(words) <= 3 else [*words[:2], f"at {len(words) - 2} later places"]
    )


def _spans(
    packets: list[tuple[int, bool]], damaged: set[int], unit: float
) -> list[tuple[float, float]]:
    origin = min(time for time, _ in packets)
    keys = [place for place, (_, key) in enumerate(packets) if key and place > 0]
    spans: list[tuple[float, float]] = []
    for first, end in zip([0, *keys], [*keys, len(packets)]):
        times = [time for time, _ in packets[first:end]]
        hit = next((place for place, time in enumerate(times) if time in damaged), None)
        if hit is None:
            continue
        begin = (min(times[hit:]) - origin) * unit
        until = (packets[end][0] - origin) * unit if end < len(packets) else math.inf
        if spans and spans[-1][1] >= begin:
            begin = spans.pop()[0]
        spans.append((begin, until))
    return spans
