"""The texts of experiments/ as HTML: Markdown without markup of its own, links and pictures within the book."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token

from resnet_lab.config.compose import CONF
from resnet_lab.files import read_regular

MOST_BYTES = 1 << 20  # of a text
COMMENTS = re.compile(r"<!--.*?-->", re.DOTALL)  # the marks of `publish`


def as_html(text: str, link: Callable[[str], str | None], picture: Callable[[str], str | None]) -> str:
    """Markdown as HTML; what looks like HTML in it stays text.

    `link` and `picture` are given the target of a link or a picture and return where it lies in the book. Where
    they return None the link is dropped and its words stay, or the picture's description.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(COMMENTS.sub("", text))
    for token in tokens:
        if token.type == "inline":
            token.children = placed(token.children or [], link, picture)
    html = str(reader.renderer.render(tokens, reader.options, {}))
    # a picture alone in its paragraph is a figure, with its description below
    return re.sub(
        r'<p>(<img [^>]*alt="([^"]*)"[^>]*>)</p>', r"<figure>\1<figcaption>\2</figcaption></figure>", html
    )


def placed(
    tokens: Sequence[Token], link: Callable[[str], str | None], picture: Callable[[str], str | None]
) -> list[Token]:
    """The tokens of a line, with targets in the book; those without are dropped, and their words stay."""
    found, dropped = [], []
    for token in tokens:
        if token.type == "link_open":
            target = link(str(token.attrs["href"]))
            dropped.append(target is None)
            token.attrs["href"] = target or ""
        if token.type in ("link_open", "link_close"):
            if not (dropped[-1] if token.type == "link_open" else dropped.pop()):
                found.append(token)
        elif token.type == "image":
            target = picture(str(token.attrs["src"]))
            token.attrs |= {"src": target or "", "loading": "lazy"}
            found += [token] if target else (token.children or [])
        else:
            found.append(token)
    return found


def text_of(folder: Path, stem: str, language: str) -> tuple[str, str]:
    """The text in this language, and the language: English where there is no translation."""
    translated = folder / f"{stem}.{language}.md"
    if translated.is_file():
        return read_regular(translated, MOST_BYTES), language
    return read_regular(folder / f"{stem}.md", MOST_BYTES), "en"


def title_of(text: str) -> str:
    """The first heading."""
    found = re.search(r"^# (.+)$", COMMENTS.sub("", text), re.MULTILINE)
    return found[1].strip() if found else ""


def names_in(scoreboard: str) -> list[str]:
    """The experiments that the scoreboard links to, in its order."""
    return list(dict.fromkeys(re.findall(r"\]\(([\w-]+)/README\.md\)", scoreboard)))


def cost_of(experiment: str) -> str:
    """The cost named in the experiment's config."""
    path = Path(CONF, "experiment", f"{experiment}.yaml")
    text = path.read_text() if path.is_file() else ""
    found = re.search(r"^# Cost: +(.*(?:\n#  +.*)*)", text, re.MULTILINE)
    return re.sub(r"\n# +", " ", found[1]) if found else ""


def inside(folder: Path, target: str) -> Path | None:
    """The regular file that a relative target means, if it lies in the folder itself."""
    path = folder / PurePosixPath(target).name
    return path if path.name == target and path.is_file() and not path.is_symlink() else None
