"""The one exception type that is meant for the person at the keyboard."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input: one line that says what, where, what was expected and what to do.

    The scripts print it and exit with code 2; nothing else turns into an exit without a traceback.
    """


class UnusableVideo(UserError):
    """A video that is no use, by itself or by limits that were set: not a matter of disks, options or weights.

    reason: what is wrong in a few words, the same for all videos with the same trouble, for counting.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
