"""Text that comes in pieces, broken between words at the edge of a terminal, and harmless to it."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

_TAB = "    "
_JOINERS = "\u200c\u200d"  # they print nothing, but Persian words and families of emoji are made with them


def printable(text: str) -> str:
    """A model must not be able to move the cursor or recolour the terminal, nor to write backwards."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t" + _JOINERS or _is_space(char))


class Words:
    """Whole words are given as they come, on a new line where they would stand over the edge; what is not whole waits.

    Wide characters (Chinese, Japanese) may be parted anywhere; a word longer than a line is left to the terminal.
    """

    def __init__(self, width: int) -> None:
        """``width``: columns of the terminal."""
        self._width = width
        self._column = 0
        self._gap = ""  # spaces before the word, which a line's end swallows
        self._word = ""

    def feed(self, text: str) -> str:
        """What can be printed now."""
        return "".join(map(self._char, text.replace("\t", _TAB)))

    def flush(self) -> str:
        """The word that nothing followed."""
        cells = cell_len(self._word)
        begin, gap = self._column + len(self._gap), self._gap
        if begin + cells > self._width and self._column > 0 and self._word:
            begin, gap = 0, "\n"
        word, self._word, self._gap = self._word, "", ""
        self._column = (begin + cells) % self._width if begin + cells > self._width else begin + cells
        return gap + word

    def _char(self, char: str) -> str:
        if char == "\n":
            text = self.flush()
            self._column = 0
            return text + char
        if char == " ":
            text = self.flush() if self._word else ""
            self._gap += char
            return text
        text = self.flush() if self._word and cell_len(char) > 1 and not self._word.endswith("\u200d") else ""
        self._word += char
        return text


def _is_space(char: str) -> bool:
    return unicodedata.category(char) == "Zs"  # such as no-break spaces, which Python does not call printable
