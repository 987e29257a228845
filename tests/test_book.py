"""The book: its pages hold together and need no network, and a text in it is text."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import in_browser
from conftest import ROOT

from resnet_lab.checks import UserError
from resnet_lab.report import main
from resnet_lab.report.book import WORDS, write_book
from resnet_lab.report.chapters import as_html, cost_of

MOST_BYTES = 10_000_000


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def values(self, tag: str, name: str) -> list[str]:
        return [str(attributes.get(name)) for found, attributes in self.found if found == tag]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book of what is committed."""
    return write_book(ROOT / "experiments", tmp_path_factory.mktemp("book")).parent


def test_every_experiment_has_a_page_in_each_language(book: Path) -> None:
    names = {path.parent.name for path in (ROOT / "experiments").glob("*/README.md")}
    for language in WORDS:
        suffix = "" if language == "en" else f".{language}"
        pages = {path.name for path in book.glob("*.html")}
        assert {f"{name}{suffix}.html" for name in (*names, "index", "scoreboard")} <= pages


def test_it_needs_no_network_and_every_link_leads_somewhere(book: Path) -> None:
    for path in book.glob("*.html"):
        elements = Elements(path.read_text())
        for target in elements.values("a", "href"):
            file, _, place = target.partition("#")
            assert target.startswith("https://") or not file or (book / file).is_file(), f"{path.name}: {target}"
            assert not place or file or f'id="{place}"' in path.read_text(), f"{path.name}: {target}"
        sources = elements.values("img", "src")
        assert all((book / source).is_file() for source in sources), path.name
        assert not re.search(r"\[\[[A-Z]+\]\]|<link|@import|<!--", path.read_text()), path.name
    size = sum(path.stat().st_size for path in book.rglob("*") if path.is_file())
    assert size < MOST_BYTES


def test_a_figure_is_told_in_words_and_a_page_has_its_language(book: Path) -> None:
    for path in book.glob("*.html"):
        elements = Elements(path.read_text())
        assert all(len(told) > 3 for told in elements.values("img", "alt")), path.name
        assert elements.values("html", "lang") == ["ko" if path.name.endswith(".ko.html") else "en"]
        assert elements.values("main", "id") == ["text"]
        (current,) = [a for tag, a in elements.found if tag == "a" and a.get("aria-current") == "true"]
        assert current["href"] == path.name


def test_curves_can_be_read_without_a_script_and_with_one(book: Path) -> None:
    page = (book / "digits_degradation.html").read_text()
    assert '<img src="figures/digits_degradation/curves.svg"' in page
    assert page.count("<script") == 4
    assert "plain-56" in page.partition("<table>")[2]
    assert "script-src 'sha256-" in page


def folder(root: Path, **texts: str) -> Path:
    """Experiments with one named `one`."""
    (root / "one").mkdir(parents=True)
    (root / "README.md").write_text("# Scoreboard\n\n| experiment |\n| --- |\n| [one](one/README.md) |\n")
    (root / "story.md").write_text("# Story\n\nSee [one](one/README.md).\n")
    (root / "one/README.md").write_text("# The first\n\nText.\n")
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.write_text(text)
    return root


def test_a_translation_is_taken_where_there_is_one_and_missed_where_not(tmp_path: Path) -> None:
    root = folder(tmp_path / "experiments", story_dot_ko_dot_md="# 이야기\n\n[하나](one/README.md)\n")
    out = write_book(root, tmp_path / "book").parent
    story, one = (out / "index.ko.html").read_text(), (out / "one.ko.html").read_text()
    assert '<a href="one.ko.html">하나</a>' in story
    assert WORDS["ko"]["missing"] not in story
    assert WORDS["ko"]["missing"] in one
    assert '<main id="text" lang="en">' in one
    assert '<a href="index.ko.html">' in one


def test_what_looks_like_markup_stays_text(tmp_path: Path) -> None:
    hostile = (
        "# <img src=x onerror=alert(1)>\n\n<script>alert(1)</script>\n\n[a](javascript:alert(1))\n"
        "[b](../../etc/passwd) [c](results.csv)\n\n![own](own.png)\n\n![<b>far</b>](../../secret.png)\n\n"
        "![link](link.png)\n\n[[TEXT]]\n"
    )
    root = folder(tmp_path / "experiments", one__README_dot_md=hostile)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "one/own.png").write_bytes(b"own")
    (root / "one/link.png").symlink_to(tmp_path / "secret.png")
    out = write_book(root, tmp_path / "book").parent
    page = (out / "one.html").read_text()
    assert "<script" not in page
    elements = Elements(page)
    assert elements.values("img", "src") == ["figures/one/own.png"]
    assert not [a for _, a in elements.found if "onerror" in a or str(a.get("href")).startswith("javascript")]
    assert "passwd" not in " ".join(elements.values("a", "href"))
    assert "results.csv" not in " ".join(elements.values("a", "href"))
    assert "[[TEXT]]" in page
    assert [path.read_bytes() for path in out.rglob("*.png")] == [b"own"]


def test_links_and_pictures_that_lead_nowhere_leave_their_words() -> None:
    html = as_html(
        "[one *two*](x.md) [three](y.md) ![four](z.png)", lambda t: "y.html" if t == "y.md" else None, len
    )  # type: ignore[arg-type]
    assert 'one <em>two</em> <a href="y.html">three</a>' in html
    assert as_html("![four](z.png)", len, lambda target: None) == "<p>four</p>\n"  # type: ignore[arg-type]


def test_the_cost_is_what_the_config_says() -> None:
    assert cost_of("lesion") == "12 runs, about five minutes on 2 idle CPU cores; no download, no GPU."
    assert cost_of("no_such") == ""


def test_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"has no README.md; give the folder experiments of a checkout"):
        write_book(tmp_path, tmp_path / "book")
    assert not (tmp_path / "book").exists()
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path), "--book"])
    assert "--book is made of one PATH" in capsys.readouterr().err


def test_a_browser_draws_the_curves_and_the_surfaces(book: Path) -> None:
    failed = "addEventListener('error', event => document.title = 'failed: ' + event.message)"
    shown = in_browser(book / "landscape.html", "document.getElementById('log').click()", first=failed)
    assert "<title>failed" not in shown
    drawn = shown.partition('id="panels"')[2].partition("</section>")[0]
    assert drawn.count("<path") >= 8
    assert "error (%), log scale<" in drawn
    assert shown.count("<canvas") == 4
