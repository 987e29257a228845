"""Names and reasons from records, made inert for each file that a report writes."""

import html
import re

from resnet_lab.text import LONGEST_MESSAGE, one_line

NUMBER = r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"
FORMULA = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20")  # the latter are their full-width forms
LONGEST_LABEL = 64  # characters of a name beside a curve


def for_html(value: object) -> str:
    return html.escape(one_line(value, LONGEST_MESSAGE))


def for_markdown(value: object) -> str:
    """One line that Markdown takes for plain text, in a table's cell, too."""
    return re.sub(r"([\\`*\[\]|~$])", r"\\\1", html.escape(one_line(value, LONGEST_MESSAGE), quote=False))


def for_csv(value: object) -> object:
    """A number as it is; text so that no spreadsheet takes it for a formula."""
    if type(value) in (int, float):
        return value
    text = one_line(value, LONGEST_MESSAGE)
    harmless = re.fullmatch(NUMBER, text) or not text.lstrip().startswith(FORMULA)
    return text if harmless else f"'{text}"


def for_figure(value: object) -> str:
    """Characters that fonts have and that neither mathtext nor TeX interprets, with ? in place of others."""
    text = re.sub(r"[^A-Za-z0-9 ._/,:()\[\]+-]", "?", one_line(value, LONGEST_LABEL))
    # matplotlib leaves names that begin with an underscore out of legends
    return f" {text}" if text.startswith("_") else text
