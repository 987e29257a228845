"""Text of unknown origin, made fit to be shown. Standard library only."""

from collections.abc import Collection, Sequence

LONGEST = 300  # characters that are shown of a name
LONGEST_MESSAGE = 4000


def visible(text: str) -> str:
    """The text with characters that would steer a terminal as escapes, such as `\\x1b`; newlines stay."""
    return "".join(c if c.isprintable() or c == "\n" else escaped(c) for c in text)


def one_line(value: object, most: int = LONGEST) -> str:
    """The value as printable text without line breaks, shortened to `most` characters."""
    text = visible(str(value)[: most + 1]).replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `5 d`."""
    if seconds < 60:
        return f"{max(0, round(seconds))} s"
    minutes, hours, days = (int(seconds // size) for size in (60, 3600, 86400))
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d"


def size(count: float) -> str:
    """Bytes in decimal units: `512 B`, `1.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """The rows as lines, their cells one below the other; those of the columns `right` end together."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        sized = enumerate(zip(row, widths, strict=True))
        cells = [cell.rjust(width) if column in right else cell.ljust(width) for column, (cell, width) in sized]
        lines.append("  ".join(cells).rstrip())
    return lines


def escaped(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape").decode()
