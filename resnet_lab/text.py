"""Text of unknown origin, made fit to be shown. Standard library only."""

LONGEST = 300  # characters that are shown of a name
LONGEST_MESSAGE = 4000


def visible(text: str) -> str:
    """The text with characters that would steer a terminal as escapes, such as `\\x1b`; newlines stay."""
    return "".join(c if c.isprintable() or c == "\n" else escaped(c) for c in text)


def one_line(value: object, most: int = LONGEST) -> str:
    """The value as printable text without line breaks, shortened to `most` characters."""
    text = visible(str(value)[: most + 1]).replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def escaped(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape").decode()
