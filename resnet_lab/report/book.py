"""The book: experiments/ as pages that need no network, in each language that has its texts.

A first page tells the story (story.md); each experiment has a page, its README with figures, curves to hover over,
and a table of its nets; the scoreboard is one more. All texts, figures and numbers are those that are committed.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from resnet_lab import __version__
from resnet_lab.checks import UserError
from resnet_lab.files import no_space, write_atomically
from resnet_lab.report.chapters import as_html, cost_of, inside, names_in, text_of, title_of
from resnet_lab.report.committed import NAME, read_committed
from resnet_lab.report.page import TEMPLATE, curves, data, html_table, policy, surfaces, with_scripts
from resnet_lab.report.results import Study, read_results
from resnet_lab.report.style import panels
from resnet_lab.report.tables import group_rows
from resnet_lab.report.text import for_html

WORDS: dict[str, dict[str, str]] = OmegaConf.to_container(OmegaConf.load(TEMPLATE.with_name("words.yaml")))  # type: ignore[assignment]
FIGURES = "figures"
LARGEST_SVG = 600_000  # bytes; of a larger picture the book takes the PNG


class Chapter(NamedTuple):
    """One page in one language."""

    name: str  # of its file, without suffixes
    language: str
    title: str
    text: str
    text_language: str
    folder: Path  # of the text

    @property
    def file(self) -> str:
        return file_of(self.name, self.language)


def file_of(name: str, language: str) -> str:
    return f"{name}.html" if language == "en" else f"{name}.{language}.html"


def write_book(experiments: Path, output: Path) -> Path:
    """Write the book of a folder of experiments; return the path of its first page.

    Raises:
        UserError: the folder has no README.md and story.md, or the output cannot be written.
    """
    for name in ("README.md", "story.md"):
        if not (experiments / name).is_file():
            raise UserError(f"PATH {experiments} has no {name}; give the folder experiments of a checkout")
    try:
        output.mkdir(parents=True, exist_ok=True)
        studies = {
            name: study_in(experiments / name) for name in names_in((experiments / "README.md").read_text())
        }
        for language in WORDS:
            book = chapters(experiments, list(studies), language)
            for chapter in book:
                write_atomically(output / chapter.file, page(chapter, book, studies.get(chapter.name), output))
    except OSError as error:
        otherwise = f"{output} cannot be written ({error}); choose another --output"
        raise UserError(no_space(error, output) or otherwise) from error
    return output / "index.html"


def study_in(folder: Path) -> Study | None:
    """The committed runs of an experiment; None where nothing was run."""
    return read_results([folder], read_committed) if (folder / NAME).is_file() else None


def chapters(experiments: Path, names: Sequence[str], language: str) -> list[Chapter]:
    found = [
        chapter("index", experiments, "story", language),
        *(chapter(name, experiments / name, "README", language) for name in names),
        chapter("scoreboard", experiments, "README", language),
    ]
    words = WORDS[language]
    return [
        found[0]._replace(title=words["story"]),
        *found[1:-1],
        found[-1]._replace(title=words["scoreboard"]),
    ]


def chapter(name: str, folder: Path, stem: str, language: str) -> Chapter:
    text, text_language = text_of(folder, stem, language)
    return Chapter(name, language, title_of(text) or name, text, text_language, folder)


def page(chapter: Chapter, book: Sequence[Chapter], study: Study | None, output: Path) -> str:
    words, template = WORDS[chapter.language], with_scripts(TEMPLATE.with_name("book.html").read_text())
    drawn = with_scripts(TEMPLATE.with_name("drawn.html").read_text())
    missing = words["missing"] if chapter.text_language != chapter.language else ""
    filled = {
        "LANGUAGE": chapter.language,
        "TEXTLANGUAGE": chapter.text_language,
        "POLICY": policy(drawn).replace("img-src data:", "img-src 'self' file: data:"),
        "TITLE": for_html(f"{chapter.title} · {words['title']}"),
        "SKIP": words["skip"],
        "PLACES": " ".join(to(other, chapter) for other in (book[0], book[-1])),
        "LANGUAGES": " ".join(in_language(chapter, language) for language in WORDS),
        "TEXT": (f'<p class="note" lang="{chapter.language}">{missing}</p>' if missing else "")
        + as_html(chapter.text, linked(chapter, book), pictured(chapter, output)),
        "MORE": cost(chapter.name, words) + (more(drawn, words, study) if study else ""),
        "NEIGHBOURS": neighbours(chapter, book, words),
        "OPEN": "open" if chapter.name == "index" else "",
        "CONTENTS": words["contents"],
        "CHOICE": words["choice"],
        "BEFOREANDAFTER": f"{words['before']}, {words['after']}",
        "CHAPTERS": "".join(f"<li>{to(other, chapter)}</li>" for other in book),
        "MADE": f"{words['made']} {__version__}.",
    }
    return fill(template, filled)


def fill(template: str, filled: dict[str, str]) -> str:
    # in one pass, so that nothing filled in is taken for a place to fill
    return re.sub(r"\[\[([A-Z]+)\]\]", lambda place: filled[place[1]], template)


def to(chapter: Chapter, here: Chapter) -> str:
    current = ' aria-current="page"' if chapter.name == here.name else ""
    return f'<a href="{chapter.file}"{current}>{for_html(chapter.title)}</a>'


def in_language(chapter: Chapter, language: str) -> str:
    current = ' aria-current="true"' if language == chapter.language else ""
    name = for_html(WORDS[language]["name"])
    return (
        f'<a lang="{language}" hreflang="{language}" href="{file_of(chapter.name, language)}"{current}>{name}</a>'
    )


def neighbours(chapter: Chapter, book: Sequence[Chapter], words: dict[str, str]) -> str:
    here = book.index(chapter)
    before = [f"{words['before']}: {to(book[here - 1], chapter)}"] if here else []
    after = [f"{words['after']}: {to(book[here + 1], chapter)}"] if here + 1 < len(book) else []
    return " · ".join(before + after)


def linked(chapter: Chapter, book: Sequence[Chapter]) -> Callable[[str], str | None]:
    """Links to the text of another page lead to the page; those to other sites stay, and those to files go."""
    pages = {(other.folder.resolve(), "README.md"): other.file for other in book if other.name != "index"}

    def link(target: str) -> str | None:
        if target.startswith(("https://", "#")):
            return target
        path, _, place = target.partition("#")
        found = pages.get(((chapter.folder / path).parent.resolve(), Path(path).name))
        return f"{found}#{place}" if found and place else found

    return link


def pictured(chapter: Chapter, output: Path) -> Callable[[str], str | None]:
    """Pictures beside the text, or in the folder of another experiment, are copied into the book."""

    def picture(target: str) -> str | None:
        folder = (chapter.folder / target).parent
        if folder.resolve().parent not in (chapter.folder.resolve(), chapter.folder.resolve().parent):
            return None
        name = Path(target).name
        png, svg = inside(folder, name), inside(folder, f"{Path(name).stem}.svg")
        found = svg if svg and svg.stat().st_size <= LARGEST_SVG else png
        if found is None:
            return None
        place = Path(FIGURES, folder.resolve().name, found.name)
        (output / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, output / place)
        return place.as_posix()

    return picture


def cost(name: str, words: dict[str, str]) -> str:
    """In English, as it is a comment of the experiment's config."""
    told = for_html(cost_of(name))
    return f'<p class="note">{words["cost"]}: <span lang="en">{told}</span></p>' if told else ""


def more(drawn: str, words: dict[str, str], study: Study) -> str:
    """The curves to hover over, where there are some, and the table of the nets."""
    content: dict[str, Any] = {"DATA": curves(study), "SURFACES": surfaces(study)}
    filled = {name: data(value) for name, value in content.items()}
    filled |= {"INTERACTIVE": words["interactive"], "EXPLAINED": words["explained"]}
    filled |= {"LOG": words["log"], "WHOLE": words["whole"]}
    section = fill(drawn, filled) if panels(study) else ""
    return f"{section}<h2>{words['nets']}</h2>{html_table(*group_rows(study))}"
