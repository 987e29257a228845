"""report.html: one file that opens from a disk without a network, with curves to hover over."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from resnet_lab.report.analyses import has_contours, shown
from resnet_lab.report.contours import MOST_PANELS, Rows, surface
from resnet_lab.report.evaluations import evaluation_tables
from resnet_lab.report.figure import BAND_FROM, top
from resnet_lab.report.pictures import pictures
from resnet_lab.report.results import CURVES, Group, Study
from resnet_lab.report.style import colour, has_curve, panel, panels
from resnet_lab.report.tables import NOTE, PROBLEMS, group_rows, problem_rows, provenance
from resnet_lab.report.tasks import words_of
from resnet_lab.report.text import for_html
from resnet_lab.report.verdict import verdict

TEMPLATE = Path(__file__).with_name("page.html")


def page(study: Study, folder: Path) -> str:
    """The page, with the pictures that are in the folder; the curves are drawn by the page itself."""
    first, *rest = verdict(study)
    problems = problem_rows(study)
    template = with_scripts(TEMPLATE.read_text())
    filled = {
        "POLICY": policy(template),
        "TITLE": for_html(", ".join(study.experiments)),
        "VERDICT": for_html(first),
        "SENTENCES": "".join(f"<li>{for_html(sentence)}</li>" for sentence in rest),
        "RESULTS": html_table(*group_rows(study)),
        "NOTE": for_html(" ".join(filter(None, (NOTE.replace("*", ""), words_of(study).errors)))),
        "PICTURES": "".join(
            image(folder / f"{picture.name}.svg", picture.told)
            for picture in pictures(study)
            if picture.name != "curves"
        ),
        "EVALUATIONS": "".join(
            f"<h2>Test error by {for_html(name)}</h2>{html_table(header, rows)}"
            for name, header, rows in evaluation_tables(study)
        ),
        "PROBLEMS": f"<h2>Runs that are not complete</h2>{html_table(PROBLEMS, problems)}" if problems else "",
        "CURVES": "" if panels(study) else "hidden",
        "PROVENANCE": "<br>".join(for_html(line) for line in provenance(study)),
        "DATA": data(curves(study)),
        "SURFACES": data(surfaces(study)),
    }
    # in one pass, so that nothing filled in is taken for a place to fill
    return re.sub(r"\[\[([A-Z]+)\]\]", lambda place: filled[place[1]], template)


def with_scripts(template: str) -> str:
    """A template with what draws in a page: curves to hover over, surfaces to turn, and their style."""
    parts = {"[[DRAWN]]": "drawn.css", "[[DRAWING]]": "curves.js", "[[TURNING]]": "surface.js"}
    for place, name in parts.items():
        template = template.replace(place, TEMPLATE.with_name(name).read_text())
    return template


def policy(template: str) -> str:
    """Have the browser load nothing, and run no script but the template's own."""
    scripts = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"


def data(content: Any) -> str:
    """JSON without the characters that could end the element it is in, or begin another."""
    text = json.dumps(content)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def image(path: Path, told: str) -> str:
    """The picture in the page itself, as a page is to open from anywhere."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{for_html(told)}" width="720" src="data:image/svg+xml;base64,{content}">'


def html_table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{for_html(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{for_html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def curves(study: Study) -> dict[str, Any]:
    """Data of the curves: a list of nets, each with its mean curves and their spread."""
    return {
        "top": round(top(study), 3),
        "panels": panels(study),
        "nets": [net(study, group) for group in study.groups if has_curve(group)],
    }


def surfaces(study: Study) -> list[dict[str, Any]]:
    """Data of the surfaces: one figure per analysis with contours, with one surface per net."""
    return [
        {
            "title": what.told,
            "axes": [what.plot[axis][0] for axis in ("x", "y", "z")],
            "log": what.plot["log"],
            "surfaces": [
                {"title": title, **heights(rows, what.plot)} for title, rows in what.first()[:MOST_PANELS]
            ],
        }
        for what in shown(study)
        if has_contours(what)
    ]


def heights(rows: Rows, plot: dict[str, Any]) -> dict[str, Any]:
    x, y, z = (plot[axis][0] for axis in ("x", "y", "z"))
    xs, ys, found = surface(rows, x, y, z, plot["log"])
    return {"xs": xs, "ys": ys, "heights": [[shortened(height) for height in row] for row in found.tolist()]}


def shortened(height: float | None) -> float | None:
    return None if height is None else float(f"{height:.4g}")


def net(study: Study, group: Group) -> dict[str, Any]:
    runs = [run for run in group.completed or group.results if run.curve.steps]
    drawn: dict[str, Any] = {
        "name": group.title,
        "panel": panel(study, group),
        "colour": colour(study, group),
        "seeds": len(runs),
    }
    singles = runs if 1 < len(runs) < BAND_FROM else []
    for key in CURVES:
        steps, means, deviations = group.mean_curve(key)
        drawn["steps"] = steps
        drawn[key] = {
            "mean": rounded(means),
            "std": rounded(deviations),
            "singles": [{"steps": r.curve.steps, "errors": rounded(getattr(r.curve, key))} for r in singles],
        }
    return drawn


def rounded(errors: list[float]) -> list[float]:
    return [round(error, 3) for error in errors]
