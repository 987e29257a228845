"""results.csv, one row per run; report.md, the report for people."""

import csv
import io
import statistics
from typing import Any

from resnet_lab.report.evaluations import evaluation_tables
from resnet_lab.report.paper import paper_test_error
from resnet_lab.report.pictures import Picture, pictures
from resnet_lab.report.results import Group, Result, Study
from resnet_lab.report.tasks import measures_in, words_of
from resnet_lab.report.text import for_csv, for_markdown
from resnet_lab.report.verdict import spread, verdict
from resnet_lab.runs import validity
from resnet_lab.runs.provenance import commit_of
from resnet_lab.runs.swept import differing, said_value, settings

ERRORS = dict(zip(validity.ERRORS, ("train error", "clean train error", "val error", "test error"), strict=True))
FACTS = ("parameters", "multiply_adds", "iterations", *ERRORS, "images_per_second", "seconds", "threads")
PROBLEMS = ["net", "run", "seed", "status", "reason"]
MOST_COLUMNS = 100  # of settings
NOTE = (
    "Errors in percent at the last iteration. *Train error* is taken over the iterations since the evaluation "
    "before, on augmented images while the weights change, as the paper plots it; *clean train error* is a pass "
    "over the training images at the end, without augmentation. Means ± sample standard deviations over n seeds."
)


def results_csv(study: Study) -> str:
    """One row per run, with a column for each setting that is not the same in all of them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # iterations has a column anyway, of those that were done
    keys = [key for key in differing([r.config for r in study.results if r.config]) if key != "iterations"]
    measured = [*FACTS[:-3], *measures_in(study), *FACTS[-3:]]
    facts = [*measured, "validates_on", "commit", "torch", "reason"]
    writer.writerow(map(for_csv, ["experiment", "run", "seed", "status", *keys[:MOST_COLUMNS], *facts]))
    for result in study.results:
        record = result.record
        found = settings(result.config) if result.config else {}
        row = [*who(result), result.status, *(in_csv(found, key) for key in keys[:MOST_COLUMNS])]
        row += [*(record.get(name, "") for name in measured), *origin(record), result.reason]
        writer.writerow([for_csv(cell) for cell in row])
    return text.getvalue()


def in_csv(found: dict[str, Any], key: str) -> Any:
    value = found.get(key, "")
    return value if type(value) in (int, float) else said_value(found, key) if key in found else ""


def who(result: Result) -> list[str]:
    return [result.experiment, result.directory.parent.name, result.seed]


def origin(record: dict[str, Any]) -> list[str]:
    versions, data = record.get("versions") or {}, record.get("data") or {}
    return [str(data.get("validates_on", "")), commit_of(record.get("git")), str(versions.get("torch", ""))]


def markdown(study: Study) -> str:
    title = for_markdown(", ".join(study.experiments))
    first, *rest = verdict(study)
    parts = [
        f"# {title}",
        f"**{for_markdown(first)}**",
        "\n".join(f"- {for_markdown(sentence)}" for sentence in rest),
        *(part for picture in pictures(study) for part in shown(picture)),
        markdown_table(*group_rows(study)),
        " ".join(filter(None, (NOTE, words_of(study).errors))),
        *(
            f"## Test error by {for_markdown(name)}\n\n{markdown_table(header, rows)}"
            for name, header, rows in evaluation_tables(study)
        ),
        *problems(study),
        "\n".join(f"- {for_markdown(line)}" for line in provenance(study)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(picture: Picture) -> list[str]:
    lines = "Dashed lines: training error. Solid lines: validation error."
    return [f"![{for_markdown(picture.told)}]({picture.name}.png)", *([lines] if picture.name == "curves" else [])]


def group_rows(study: Study) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one row per net, over its completed seeds."""
    papers = [paper_test_error(group) for group in study.groups]
    costs = ["multiply-adds", "images/s"] if study.several_models else []
    paper_column = ["paper's test error"] if any(papers) else []
    measures = measures_in(study)
    header = ["net", "parameters", *costs, *ERRORS.values(), *measures.values(), *paper_column, "runs"]
    rows = []
    for group, paper in zip(study.groups, papers, strict=True):
        row = [group.name, parameters(group), *([multiply_adds(group), speed(group)] if costs else [])]
        row += [*(cell(group, key) for key in (*ERRORS, *measures))]
        row += ([paper or ""] if any(papers) else []) + [statuses(group)]
        rows.append(row)
    return header, rows


def parameters(group: Group) -> str:
    counts = group.values("parameters")
    return f"{counts[0] / 1e6:.2f}M" if counts else ""


def multiply_adds(group: Group) -> str:
    counts = group.values("multiply_adds")
    return f"{counts[0] / 1e6:.1f}M" if counts else ""


def speed(group: Group) -> str:
    speeds = group.values("images_per_second")
    return f"{statistics.median(speeds):.0f}" if speeds else ""


def cell(group: Group, key: str) -> str:
    values = group.values(key)
    return spread(values) if values else ""


def statuses(group: Group) -> str:
    names = [result.status for result in group.results]
    return ", ".join(f"{names.count(status)} {status}" for status in sorted(set(names)))


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    inert = [[for_markdown(cell) for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *inert]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def problem_rows(study: Study) -> list[list[str]]:
    """Runs that did not complete, or of which something is left out: net, run, seed, status, reason."""
    names = {id(result): group.name for group in study.groups for result in group.results}
    runs = [
        [names[id(result)], *who(result)[1:], result.status, result.reason]
        for result in study.results
        if result.status != "completed" or result.reason
    ]
    return runs + [["", path.name, "", "unreadable", reason] for path, reason in study.left_out.items()]


def problems(study: Study) -> list[str]:
    rows = problem_rows(study)
    return ["## Runs that are not complete", markdown_table(PROBLEMS, rows)] if rows else []


def provenance(study: Study) -> list[str]:
    """Where the numbers come from, said once for all runs that agree."""
    records = [result.record for result in study.results if result.record]
    if not records:
        return []
    commits = sorted({origin(record)[1] or "no checkout" for record in records})
    versions = sorted({f"torch {origin(record)[2]}" for record in records})
    known = [record["machine"] for record in records if record.get("machine")]
    machines = sorted({f"{machine.get('processor')}, {machine.get('cores')} cores" for machine in known})
    protocols = sorted({origin(record)[0] for record in records} - {""})
    lines = [
        f"Validation: on {'; '.join(protocols)}." if protocols else "",
        f"Code: {', '.join(commits)}; {', '.join(versions)}; {'; '.join(machines)}.",
        f"Seeds: {', '.join(sorted({result.seed for result in study.results}))}.",
    ]
    return [line for line in lines if line]
