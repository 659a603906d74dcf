"""The one exception type that is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

MAX_MESSAGE = 500
_TAIL = 150  # the end of a message is its remedy, which is kept when the middle is cut out


class UserError(ValueError):
    """Bad input: one line that says what, where, what was expected and what to do.

    The scripts print it and exit with code 2; nothing else turns into an exit without a traceback.
    What a file says
    may stand in it: it is one line of at most MAX_MESSAGE printable characters, whatever that was.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UnusableVideo(UserError):
    """A video that is no use, by itself or by limits that were set: not a matter of disks, options
    or weights.

    reason: what is wrong in a few words, the same for all videos with the same trouble, for
        counting.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def one_line(text: str, most: int = MAX_MESSAGE) -> str:
    """Text from outside for a terminal or a log: white space as single spaces, what cannot be
    printed (control characters, escapes, half surrogates) as ``\\x1b``, and the middle left out
    beyond ``most`` characters."""
    text = " ".join(_shortened(text, 20 * most).split())
    return _shortened(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text), most
    )


def hint(name: str, known: Sequence[str]) -> str:
    """``did you mean X?`` by the nearest of the known names, or a list of them where none is
    near."""
    by_lower = {other.lower(): other for other in known}
    nearest = difflib.get_close_matches(name.lower(), list(by_lower), 1, 0.6)
    if nearest:
        return f"did you mean {by_lower[nearest[0]]}?"
    first = ", ".join(known[:8])
    return f"known: {first}{', ...' if len(known) > 8 else ''}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - _TAIL - 5]} ... {text[-_TAIL:]}"
