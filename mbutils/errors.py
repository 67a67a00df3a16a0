"""The exception whose message is written for users."""

import unicodedata

_NAMED = 3, 12  # valid names in a hint: near ones, and others
_NOT_PRINTED = {"Cc", "Cs", "Zl", "Zp"}  # control characters, bytes that are no UTF-8, separators of lines


class WorkbookError(Exception):
    """Bad input or a missing resource. The message is one line that names the problem and the way out.

    The command line prints the line and exits with status 2; a notebook shows it without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))

    def _render_traceback_(self) -> list[str]:
        # IPython's hook for how an exception looks in a notebook.
        return [f"{type(self).__name__}: {self}"]


def printable(text: str) -> str:
    """Returns a text in one line, with what no terminal, file or table takes escaped, as in names of files."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _NOT_PRINTED else character
        for character in text
    )


def nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """Returns a hint that names the nearest valid names, or the first of them where none is near, as to a number."""
    from difflib import get_close_matches

    near, others = _NAMED
    matches = get_close_matches(name, valid, n=near, cutoff=0.8) or get_close_matches(name, valid, n=1)
    if matches and any(map(str.isalpha, name)):
        return f"did you mean {' or '.join(map(repr, matches))}?"
    more = f" or {len(valid) - others} more" if len(valid) > others else ""
    return f"choose one of {', '.join(valid[:others])}{more}"
