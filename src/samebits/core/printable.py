"""Text that someone else may have written, made safe to show: on a terminal, on a page, in a file."""


def printable(text: str, keep: str = "") -> str:
    """The text as one line, with control and formatting characters and halves of characters as escapes.

    Characters in `keep` stay: a page, which no terminal reads, may keep line breaks.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(letter: str) -> str:
    return ascii(letter)[1:-1]
