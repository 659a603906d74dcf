"""Which parts of a video's stream are damaged, by what the decoder says of each frame.

Decoders conceal what they cannot read: they put in the frame before, and go on. OpenCV gives such frames as if they
were sound, and so all that are predicted from them up to the next key frame. PyAV passes on the decoder's own marks.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scene.errors import UnusableVideo
from scene.foreign_paths import utf8_path

if TYPE_CHECKING:
    from preprocess.scan import Scan
    from preprocess.video import VideoInfo

_log = logging.getLogger(__name__)

_BLAMED = 0.1  # part of a video that must be lost for that to be the reason why it is of no use


def damaged_spans(path: Path) -> list[tuple[float, float]]:
    """Spans [from, to) of damaged frames in seconds from the first frame, in order; the last may end at infinity.

    A span begins with the first frame that is predicted from a damaged one, and ends with the next key frame. Costs
    another decoding, 0.6 ms a frame at 480². Empty for files that PyAV cannot open.
    """
    try:
        import av
    except ImportError as error:
        _log.warning("damaged frames cannot be told from sound ones: the package av cannot be imported (%s)", error)
        return []
    packets: list[tuple[int, bool]] = []  # time and whether it is a key frame, in the order of decoding
    damaged: set[int] = set()
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
                except av.error.FFmpegError:
                    damaged |= {time} - {None}
                    continue
                damaged |= {frame.pts for frame in frames if frame.is_corrupt and frame.pts is not None}
                if packet.is_corrupt and time is not None:
                    damaged.add(time)
    except (av.error.FFmpegError, IndexError):
        pass  # the end of what can be read; a file that has none is reported by who reads its frames
    return _spans(packets, damaged, unit) if packets else []


def describe(spans: list[tuple[float, float]], duration_s: float) -> str:
    """Spans of damage in words, such as ``from 2.7 to 4.1 s and from 6.0 s on``."""
    words = [
        f"from {begin:.1f} s on" if end >= duration_s else f"from {begin:.1f} to {end:.1f} s" for begin, end in spans
    ]
    return " and ".join(words if len(words) <= 3 else [*words[:2], f"at {len(words) - 2} later places"])


@contextlib.contextmanager
def blamed_on_damage(info: VideoInfo, scanned: Scan) -> Iterator[None]:
    """Where much of a video's stream is damaged or missing, that is the reason why what is left of it is no use."""
    try:
        yield
    except UnusableVideo as error:
        announced_s = info.num_frames / info.fps if scanned.reached_end else 0.0
        whole_s = max(scanned.duration_s, announced_s)
        lost_s = float((scanned.damaged[:, 1] - scanned.damaged[:, 0]).sum()) + whole_s - scanned.duration_s
        if lost_s < _BLAMED * whole_s:
            raise
        what = []
        if len(scanned.damaged):
            what.append(f"is damaged {describe(scanned.damaged.tolist(), scanned.duration_s)}")
        if announced_s > scanned.duration_s + 1 / info.fps:
            what.append(f"ends at {scanned.duration_s:.1f} s of {announced_s:.1f} s")
        raise UnusableVideo(
            "damaged stream",
            f"{info.path}: the video stream {' and '.join(what)}, and the rest of it does not do "
            f"({str(error).removeprefix(f'{info.path}: ')}): copy the file again from the camera, or record again",
        ) from None


def _spans(packets: list[tuple[int, bool]], damaged: set[int], unit: float) -> list[tuple[float, float]]:
    origin = min(time for time, _ in packets)
    keys = [place for place, (_, key) in enumerate(packets) if key and place > 0]
    found: list[tuple[float, float]] = []
    for first, end in zip([0, *keys], [*keys, len(packets)]):
        times = [time for time, _ in packets[first:end]]
        hit = next((place for place, time in enumerate(times) if time in damaged), None)
        if hit is None:
            continue
        begin = (min(times[hit:]) - origin) * unit
        until = (packets[end][0] - origin) * unit if end < len(packets) else math.inf
        if found and found[-1][1] >= begin:
            begin = found.pop()[0]
        found.append((begin, until))
    return found
