"""Errors by the paper's protocols: one table per protocol, as different protocols cannot be compared."""

import json
from typing import Any

from resnet_lab.report.paper import paper_errors
from resnet_lab.report.results import Group, Study
from resnet_lab.report.verdict import spread
from resnet_lab.text import one_line

Table = tuple[str, list[str], list[list[str]]]  # title, header, rows
ERRORS = {"error": "top-1 error", "error_top5": "top-5 error"}


def evaluation_tables(study: Study) -> list[Table]:
    """A table for each protocol that runs or ensembles were evaluated by."""
    results = [result for group in study.groups for result in group.completed]
    found = [e for result in results for e in result.evaluations] + study.ensembles
    protocols = {json.dumps(entry["protocol"], sort_keys=True): entry["protocol"] for entry in found}
    return [protocol_table(study, protocols[key]) for key in sorted(protocols)]


def protocol_table(study: Study, protocol: dict[str, Any]) -> Table:
    rows, papers = [], []
    for group in study.groups:
        values = {key: of_group(group, protocol, key) for key in ERRORS}
        if values["error"]:
            rows.append([group.name, *(spread(values[key]) if values[key] else "" for key in ERRORS)])
            papers.append(paper_errors(group, protocol))
    for entry in (e for e in study.ensembles if e["protocol"] == protocol):
        name = f"ensemble of {len(entry['members'])}: {', '.join(entry['members'])}"
        rows.append([name, *(f"{entry[key]:.2f} %" if key in entry else "" for key in ERRORS)])
        papers.append(None)
    header = ["net", *ERRORS.values()]
    if any(papers):
        header += ["paper's top-1", "paper's top-5"]
        for row, paper in zip(rows, papers, strict=True):
            row += [f"{error:.2f} %" if error is not None else "" for error in paper or (None, None)]
    return title(protocol), header, rows


def of_group(group: Group, protocol: dict[str, Any], key: str) -> list[float]:
    """One value per completed run that was evaluated by the protocol."""
    return [
        float(entry[key])
        for result in group.completed
        for entry in result.evaluations
        if entry["protocol"] == protocol and key in entry
    ]


def title(protocol: dict[str, Any]) -> str:
    shown = [f"{key.replace('_', ' ')} {value}" for key, value in protocol.items() if key != "name"]
    return one_line(f"{protocol['name'].replace('_', ' ')}: {', '.join(shown)}")
