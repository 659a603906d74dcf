"""The tables of benchmarks/comparison.py: means over seeds with their spread, differences to the default preset.

A row is the figures of one fit (``benchmarks.fits.figures``) with clip, name, tracking and seed. ± is the standard
deviation over seeds. Differences are taken seed by seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

DEFAULT = "default"
QUALITY = {
    "psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "face": "face", "mouth": "mouth", "eyes": "eyes",
    "inside": "inside", "unswayed": "without sway",
}  # fmt: skip
COST = {
    "steps": "steps", "steps_per_s": "steps/s", "num_gaussians": "Gaussians", "peak_memory_gb": "peak GB",
    "bundle_mb": "bundle MB",
}  # fmt: skip
SHARES = ("border", "torso", "face", "rest")
COMPARED = {"psnr": "full", "unswayed": "full without sway", "face": "face", "mouth": "mouth", "eyes": "eyes"}
PARTS = ("face", "mouth", "eyes")
DIGITS = {"ssim": 3, "lpips": 3, "steps": 0, "num_gaussians": 0}
Row = dict[str, Any]


def heading(rows: Sequence[Row], conditions: dict[str, Any]) -> str:
    """What the figures are of, and what is missing in them."""
    lines = [
        f"Held-out figures after {conditions['minutes']:g} minutes of each fit, {conditions['jobs']} fit(s) at a time "
        f"on {conditions['threads']} thread(s) each: mean over {conditions['seeds']} seed(s) ± standard deviation."
    ]
    if conditions["settings"]:
        lines.append(f"All with {', '.join(conditions['settings'])}.")
    if conditions["missing"]:
        lines.append(f"{conditions['missing']} fit(s) are missing: not finished.")
    if conditions["left_out"]:
        lines.append(f"Not for all clips, for want of --landmark-captures: {', '.join(conditions['left_out'])}.")
    if not any(row["perceptual"] for row in rows):
        lines.append("No fit has a perceptual loss: it is off, or VGG16's weights are not here (--weights DIR).")
    if len(versions := sorted({row["code"] for row in rows})) > 1:
        lines.append(f"Of different versions of the program, which may not compare: {', '.join(versions)}.")
    return "\n".join(lines)


def means(rows: Sequence[Row]) -> list[Row]:
    """Per clip and entry: mean, min, max and spread over seeds of each figure (None where not measured); shares."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["clip"], row["name"]), []).append(row)
    clips = list(dict.fromkeys(clip for clip, _ in groups))
    return [
        {
            "clip": clip, "name": name, "tracking": group[0]["tracking"], "seeds": [row["seed"] for row in group],
            **{column: _statistics(row[column] for row in group) for column in (*QUALITY, *COST)},
            "error_share": {part: _mean(row["error_share"][part] for row in group) for part in SHARES},
        }
        for (clip, name), group in sorted(groups.items(), key=lambda item: clips.index(item[0][0]))
    ]  # fmt: skip


def figures(rows: Sequence[Row]) -> str:
    """The table of all clips and entries."""
    head = ["clip", "preset", "tracking", *QUALITY.values(), f"error in {'/'.join(SHARES)} %", *COST.values()]
    lines = []
    for group in means(rows):
        shares = "/".join("–" if share is None else f"{100 * share:.0f}" for share in group["error_share"].values())
        quality = [_spread(group[column], DIGITS.get(column, 1)) for column in QUALITY]
        cost = [_plain(group[column]["mean"], DIGITS.get(column, 1)) for column in COST]
        lines.append([group["clip"], group["name"], group["tracking"], *quality, shares, *cost])
    return _table(head, lines)


def compare(rows: Sequence[Row], name: str, sign: int) -> Row:
    """An entry against the default preset on the clips that have both; sign 1: entry minus default, -1: the reverse.

    by_clip: statistics over seeds by clip. mean: over clips of their means. spread: over seeds of the mean over clips.
    worst, best: clip and value. ahead: clips above 0. None where nothing was measured.
    """
    of = {key: {(row["clip"], row["seed"]): row for row in rows if row["name"] == key} for key in (name, DEFAULT)}
    clips = list(dict.fromkeys(clip for clip, _ in of[DEFAULT]))
    found: Row = {"name": name}
    for column in COMPARED:
        pairs = {key: (of[name][key][column], of[DEFAULT][key][column]) for key in of[name] if key in of[DEFAULT]}
        changes = {key: sign * (a - b) for key, (a, b) in pairs.items() if a is not None and b is not None}
        by_clip = {clip: _statistics(value for key, value in changes.items() if key[0] == clip) for clip in clips}
        by_clip = {clip: found for clip, found in by_clip.items() if found["mean"] is not None}
        ranked = sorted(((clip, found["mean"]) for clip, found in by_clip.items()), key=lambda item: item[1])
        seeds = {key[1] for key in changes if all((clip, key[1]) in changes for clip in by_clip)}
        over_seeds = [_mean(value for key, value in changes.items() if key[1] == seed) for seed in sorted(seeds)]
        found[column] = {
            "by_clip": by_clip, "mean": _mean(value for _, value in ranked),
            "spread": statistics.stdev(over_seeds) if len(over_seeds) > 1 else None,
            "worst": ranked[0] if ranked else None, "best": ranked[-1] if ranked else None,
            "ahead": sum(value > 0 for _, value in ranked),
        }  # fmt: skip
    return found


def differences(compared: Sequence[Row]) -> str:
    """Default minus each other preset, over all clips."""
    head = ["default minus", *(f"{title}, worst clip" for title in COMPARED.values())]
    head.append(f"clips on which default is ahead at {', '.join(PARTS)}; at all three")
    lines = []
    for found in compared:
        ahead = ", ".join(f"{found[part]['ahead']}/{len(found[part]['by_clip'])}" for part in PARTS)
        clips = [clip for clip in found["face"]["by_clip"]]
        everywhere = sum(all(_ahead(found[part], clip) for part in PARTS) for clip in clips)
        cells = [_overall(found[column], ("worst",)) for column in COMPARED]
        lines.append([found["name"], *cells, f"{ahead}; {everywhere}/{len(clips)}"])
    return "Differences in dB, mean over clips.\n\n" + _table(head, lines)


def changes(compared: Sequence[Row], rows: Sequence[Row]) -> str:
    """What each change costs: over all clips with the worst and the best of them, and clip by clip."""
    groups = means(rows)
    cost = ("steps_per_s", "peak_memory_gb")
    head = ["change", *COMPARED.values(), *(COST[column] for column in cost)]

    def costs(name: str, clip: str | None = None) -> list[str]:
        chosen = [group for group in groups if group["name"] == name and clip in (None, group["clip"])]
        return [_plain(_mean(group[column]["mean"] for group in chosen), 1) for column in cost]

    lines = [[DEFAULT, *([""] * len(COMPARED)), *costs(DEFAULT)]]
    by_clip = []
    for found in compared:
        cells = [_overall(found[column], ("worst", "best")) for column in COMPARED]
        lines.append([found["name"], *cells, *costs(found["name"])])
        for clip in found["psnr"]["by_clip"]:
            values = (found[column]["by_clip"].get(clip) for column in COMPARED)
            cells = ["–" if value is None else _spread(value, 2, signed=True) for value in values]
            by_clip.append([clip, found["name"], *cells, *costs(found["name"], clip)])
    by_clip.sort(key=lambda cells: list(dict.fromkeys(group["clip"] for group in groups)).index(cells[0]))
    return (
        "Change in dB when a part is switched off: mean over clips; in brackets the clip that loses most and the one "
        f"that loses least.\n\n{_table(head, lines)}\n\nClip by clip.\n\n{_table(['clip', *head], by_clip)}"
    )


def _ahead(found: Row, clip: str) -> bool:
    return clip in found["by_clip"] and found["by_clip"][clip]["mean"] > 0


def _statistics(values: Iterable[float | None]) -> dict[str, float | None]:
    measured = [value for value in values if value is not None]
    pick: dict[str, Callable[[list[float]], float]] = {"mean": statistics.fmean, "min": min, "max": max}
    found = {name: function(measured) if measured else None for name, function in pick.items()}
    return {**found, "spread": statistics.stdev(measured) if len(measured) > 1 else None}


def _mean(values: Iterable[float | None]) -> float | None:
    return _statistics(values)["mean"]


def _overall(found: Row, extremes: Sequence[str]) -> str:
    """Mean with spread over seeds, and the clips at the ends where there are several."""
    if len(found["by_clip"]) < 2:
        return _spread(found, 2, signed=True)
    ends = ", ".join(f"{value:+.2f} {clip}" for clip, value in (found[end] for end in extremes))
    return f"{_spread(found, 2, signed=True)} ({ends})"


def _spread(found: Row, digits: int, signed: bool = False) -> str:
    text = _plain(found["mean"], digits, signed)
    return text if found["spread"] is None else f"{text} ± {found['spread']:.{digits}f}"


def _plain(value: float | None, digits: int, signed: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if signed else ''}.{digits}f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
