"""The one exception type that is meant for the person at the keyboard."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input: one line that says what, where, what was expected and what to do.

    The scripts print it and exit with code 2; nothing else turns into an exit without a traceback.
    """
