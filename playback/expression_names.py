"""Short names of expressions: what people write instead of ``mouthSmileLeft`` and
``mouthSmileRight``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from likeness.scene.errors import UserError, hint

_SIDE = re.compile("(?<=.)(Left|Right)$")
_PART = re.compile("^[a-z]+(?=[A-Z])")


def matching(name: str, names: Sequence[str]) -> list[str]:
    """The expressions of an avatar that a name stands for.

    A full name stands for itself. Left out may be the side, which means both (``mouthSmile``), and
    the part of the face (``smileLeft``, ``smile``), capitals not regarded. Raises UserError for a
    name that no expression has, with the nearest one, and for one that several have.
    """
    if name in names:
        return [name]
    matches = [full for full in names if name.lower() in _short_names(full)]
    if not matches:
        known = [*names, *_all_short_names(names)]
        of_part = [full for full in names if _PART.findall(full) == [name]]
        expected = f"expected one of {', '.join(of_part)}" if of_part else hint(name, known)
        raise UserError(f"no expression {name!r}; {expected}")
    if len({_both_sides(full) for full in matches}) > 1:
        raise UserError(f"expression {name!r} is ambiguous; expected one of {', '.join(matches)}")
    return matches


def coefficients(values: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Coefficients by full names, of those by any names; full names win over short ones.

    Raises UserError for unknown names and for values that are no finite numbers.
    """
    short, full = dict[str, float](), dict[str, float]()
    for name, value in values.items():
        if not is_number(value):
            raise UserError(f"expression {name}: expected a number, got {value!r}")
        group = full if name in names else short
        group.update(dict.fromkeys(matching(name, names), float(value)))
    return short | full


def is_number(value: Any) -> bool:
    """Whether a value can be used as a finite number."""
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def _both_sides(full: str) -> str:
    """The name without its side, unless that is all that follows the part of the face."""
    base = _SIDE.sub("", full)
    return base if _PART.match(base) else full


def _short_names(full: str) -> set[str]:
    wide = (full, _both_sides(full))
    return {short.lower() for name in wide for short in (name, _PART.sub("", name))}


def _all_short_names(names: Sequence[str]) -> list[str]:
    """The shortest names, in our capitals."""
    short = (_PART.sub("", _both_sides(full)) for full in names)
    return [name[:1].lower() + name[1:] for name in short]
