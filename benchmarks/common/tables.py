"""The tables of benchmarks.comparison: means over seeds with their spread,
differences to one.

A row is the figures of one fit (``benchmarks.common.fits.figures``) with clip, name, tracking and
seed. ± is the standard deviation over seeds. Differences are taken seed by seed; * marks those that
are more than twice that of the seeds: of the differences themselves, and of the preset that is
compared with.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.common.figures import table
from likeness.scene.machine import machine_line

DEFAULT = "default"
# behind the name of a preset that is fitted to a capture tracked by landmarks
LANDMARKS = ", landmarks"
WITH_SWAY = "PSNR with held-out sway"
QUALITY = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "face": "face",
    "mouth": "mouth",
    "eyes": "eyes",
    "inside": "inside",
    "with_sway": WITH_SWAY,
}
COST = {
    "steps": "steps",
    "steps_per_s": "steps/s",
    "num_gaussians": "Gaussians",
    "peak_memory_gb": "peak GB",
    "bundle_mb": "bundle MB",
}
SHARES = ("border", "torso", "face", "rest")
COMPARED = {
    "psnr": "full",
    "face": "face",
    "mouth": "mouth",
    "eyes": "eyes",
    "with_sway": "full with held-out sway",
}
BEYOND = 2.0  # standard deviations over seeds that a difference must exceed to count
PARTS = ("face", "mouth", "eyes")
DIGITS = {"ssim": 3, "lpips": 3, "steps": 0, "num_gaussians": 0}
Row = dict[str, Any]
_MARK = f"* is more than {BEYOND:g} times the standard deviation over seeds"


def heading(rows: Sequence[Row], conditions: dict[str, Any]) -> str:
    """What the figures are of, and what is missing in them."""
    minutes, iterations = conditions["minutes"], conditions["iterations"]
    length = f"{minutes:g} minutes" if iterations is None else f"{iterations} steps"
    lines = [
        f"Held-out figures after {length} of each fit, {conditions['jobs']} fit(s) at a time on "
        f"{conditions['threads']} thread(s) each: mean over {conditions['seeds']} seed(s) ± "
        "standard deviation.",
        "Held-out frames are shown as a driver reaches them, without the secondary motion (sway) "
        "tracked on them; "
        f"'{WITH_SWAY}' shows them with it.",
        *sorted({machine_line(row["machine"], load=False) for row in rows if row.get("machine")}),
    ]
    if conditions["seeds"] < 2:
        lines.append("One seed has no spread: no difference below is marked as beyond it.")
    if conditions["settings"]:
        lines.append(f"All with {', '.join(conditions['settings'])}.")
    if conditions["missing"]:
        lines.append(f"{conditions['missing']} fit(s) are missing: not finished.")
    if conditions["left_out"]:
        lines.append(
            "Not for all clips, as there are no --landmark-captures: "
            f"{', '.join(conditions['left_out'])}."
        )
    if not any(row["perceptual"] for row in rows):
        lines.append(
            "No fit has a perceptual loss: it is off, or VGG16's weights are not here "
            "(--weights DIR)."
        )
    if len(versions := sorted({row["code"] for row in rows})) > 1:
        lines.append(
            f"Of different versions of the program, which may not compare: {', '.join(versions)}."
        )
    return "\n".join(lines)


def means(rows: Sequence[Row]) -> list[Row]:
    """Per clip and entry: mean, min, max and spread over seeds of each figure (None where not
    measured); shares."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["clip"], row["name"]), []).append(row)
    clips = list(dict.fromkeys(clip for clip, _ in groups))
    return [
        {
            "clip": clip,
            "name": name,
            "tracking": group[0]["tracking"],
            "seeds": [row["seed"] for row in group],
            **{column: _statistics(row[column] for row in group) for column in (*QUALITY, *COST)},
            "error_share": {
                part: _mean(row["error_share"][part] for row in group) for part in SHARES
            },
        }
        for (clip, name), group in sorted(groups.items(), key=lambda item: clips.index(item[0][0]))
    ]


def figures(rows: Sequence[Row]) -> str:
    """The table of all clips and entries."""
    head = ["clip", "preset", *QUALITY.values(), f"error in {'/'.join(SHARES)} %", *COST.values()]
    lines = []
    for group in means(rows):
        shares = "/".join(
            "–" if share is None else f"{100 * share:.0f}"
            for share in group["error_share"].values()
        )
        quality = [_spread(group[column], DIGITS.get(column, 1)) for column in QUALITY]
        cost = [_plain(group[column]["mean"], DIGITS.get(column, 1)) for column in COST]
        lines.append([group["clip"], group["name"], *quality, shares, *cost])
    return table(head, lines)


def compare(rows: Sequence[Row], name: str, sign: int, base: str = DEFAULT) -> Row:
    """An entry against another (``base``) on the clips that have both; sign 1: entry minus base,
    -1: the reverse.

    by_clip: statistics over seeds by clip. mean: over clips of their means. spread: over seeds of
    the mean over clips. beyond (of both): whether the mean exceeds BEYOND times the spread, of the
    differences as of the base; None with a single seed. worst, best: clip and value. ahead: clips
    above 0. None where nothing was measured.
    """
    of = {
        key: {(row["clip"], row["seed"]): row for row in rows if row["name"] == key}
        for key in (name, base)
    }
    clips = list(dict.fromkeys(clip for clip, _ in of[base]))
    found: Row = {"name": name, "base": base}
    for column in COMPARED:
        bases = {key: row[column] for key, row in of[base].items() if row[column] is not None}
        pairs = {key: (row[column], bases[key]) for key, row in of[name].items() if key in bases}
        changes = {key: sign * (a - b) for key, (a, b) in pairs.items() if a is not None}
        by_clip = {
            clip: _statistics(value for key, value in changes.items() if key[0] == clip)
            for clip in clips
        }
        by_clip = {clip: found for clip, found in by_clip.items() if found["mean"] is not None}
        for clip, of_clip in by_clip.items():
            own = [value for key, value in bases.items() if key[0] == clip]
            of_clip["beyond"] = _beyond(
                of_clip["mean"], of_clip["spread"], _statistics(own)["spread"]
            )
        ranked = sorted(
            ((clip, found["mean"]) for clip, found in by_clip.items()), key=lambda item: item[1]
        )
        mean, spread = _mean(value for _, value in ranked), _spread_of_means(changes, by_clip)
        found[column] = {
            "by_clip": by_clip,
            "mean": mean,
            "spread": spread,
            "beyond": _beyond(mean, spread, _spread_of_means(bases, by_clip)),
            "worst": ranked[0] if ranked else None,
            "best": ranked[-1] if ranked else None,
            "ahead": sum(value > 0 for _, value in ranked),
        }
    return found


def _spread_of_means(values: dict[tuple[str, int], float], clips: Iterable[str]) -> float | None:
    """Standard deviation over seeds of the mean over clips, by the seeds that all clips have; None
    for fewer than 2."""
    clips = list(clips)
    seeds = sorted({seed for _, seed in values if all((clip, seed) in values for clip in clips)})
    means = (
        [statistics.fmean(values[clip, seed] for clip in clips) for seed in seeds] if clips else []
    )
    return statistics.stdev(means) if len(means) > 1 else None


def _beyond(mean: float | None, *spreads: float | None) -> bool | None:
    """Whether a difference exceeds every spread that is known; None where none is."""
    known = [spread for spread in spreads if spread is not None]
    return abs(mean) > BEYOND * max(known) if known and mean is not None else None


def differences(compared: Sequence[Row]) -> str:
    """Default minus each other preset, over all clips."""
    head = ["default minus", *(f"{title}, worst clip" for title in COMPARED.values())]
    head.append(f"clips on which default is ahead at {', '.join(PARTS)}; at all three")
    lines = []
    for row in compared:
        ahead = ", ".join(f"{row[part]['ahead']}/{len(row[part]['by_clip'])}" for part in PARTS)
        clips = [clip for clip in row["face"]["by_clip"]]
        everywhere = sum(all(_ahead(row[part], clip) for part in PARTS) for clip in clips)
        cells = [_overall(row[column], ("worst",)) for column in COMPARED]
        lines.append([row["name"], *cells, f"{ahead}; {everywhere}/{len(clips)}"])
    return f"Differences in dB, mean over clips; {_MARK}.\n\n" + table(head, lines)


def landmarks(compared: Sequence[Row], rows: Sequence[Row]) -> str:
    """What tracking by landmarks alone costs: the same presets and clips by both ways of tracking,
    and the change."""
    head = ["clip", "preset", "PSNR, photometric", "PSNR, landmarks"]
    head += [f"change {title}" for title in COMPARED.values()]
    groups = {(group["clip"], group["name"]): group["psnr"] for group in means(rows)}
    lines = []
    for row in compared:
        preset = row["name"].removesuffix(LANDMARKS)
        for clip in row["psnr"]["by_clip"]:
            both = [_spread(groups[clip, name], 1) for name in (preset, row["name"])]
            changed = [row[column]["by_clip"].get(clip) for column in COMPARED]
            cells = ["–" if value is None else _spread(value, 2, signed=True) for value in changed]
            lines.append([clip, preset, *both, *cells])
    what = "Tracking by landmarks alone instead of photometric, in dB"
    return f"{what}; {_MARK}.\n\n{table(head, lines)}"


def changes(compared: Sequence[Row], rows: Sequence[Row], base: str = DEFAULT) -> str:
    """What each change of ``base`` costs: over all clips with the worst and the best of them, and
    clip by clip."""
    groups = means(rows)
    cost = ("steps_per_s", "peak_memory_gb")
    head = ["change", *COMPARED.values(), *(COST[column] for column in cost)]

    def costs(name: str, clip: str | None = None) -> list[str]:
        chosen = [
            group for group in groups if group["name"] == name and clip in (None, group["clip"])
        ]
        return [_plain(_mean(group[column]["mean"] for group in chosen), 1) for column in cost]

    lines = [[base, *([""] * len(COMPARED)), *costs(base)]]
    by_clip = []
    for row in compared:
        cells = [_overall(row[column], ("worst", "best")) for column in COMPARED]
        lines.append([row["name"], *cells, *costs(row["name"])])
        for clip in row["psnr"]["by_clip"]:
            values = (row[column]["by_clip"].get(clip) for column in COMPARED)
            cells = ["–" if value is None else _spread(value, 2, signed=True) for value in values]
            by_clip.append([clip, row["name"], *cells, *costs(row["name"], clip)])
    by_clip.sort(
        key=lambda cells: list(dict.fromkeys(group["clip"] for group in groups)).index(cells[0])
    )
    return (
        "Change in dB when one part is changed: mean over clips; in brackets the clip that loses "
        f"most and the one that loses least; {_MARK}.\n\n{table(head, lines)}\n\nClip by clip.\n\n"
        f"{table(['clip', *head], by_clip)}"
    )


def _ahead(found: Row, clip: str) -> bool:
    return clip in found["by_clip"] and found["by_clip"][clip]["mean"] > 0


def _statistics(values: Iterable[float | None]) -> dict[str, float | None]:
    measured = [value for value in values if value is not None]
    pick: dict[str, Callable[[list[float]], float]] = {
        "mean": statistics.fmean,
        "min": min,
        "max": max,
    }
    by_name = {name: function(measured) if measured else None for name, function in pick.items()}
    return {**by_name, "spread": statistics.stdev(measured) if len(measured) > 1 else None}


def _mean(values: Iterable[float | None]) -> float | None:
    return _statistics(values)["mean"]


def _overall(found: Row, extremes: Sequence[str]) -> str:
    """Mean with spread over seeds, and the clips at the ends where there are several."""
    if len(found["by_clip"]) < 2:
        return _spread(found, 2, signed=True)
    ends = ", ".join(f"{value:+.2f} {clip}" for clip, value in (found[end] for end in extremes))
    return f"{_spread(found, 2, signed=True)} ({ends})"


def _spread(found: Row, digits: int, signed: bool = False) -> str:
    text = _plain(found["mean"], digits, signed) + ("*" if found.get("beyond") else "")
    return text if found["spread"] is None else f"{text} ± {found['spread']:.{digits}f}"


def _plain(value: float | None, digits: int, signed: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if signed else ''}.{digits}f}"
