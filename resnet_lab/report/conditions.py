"""Conditions of a study's runs: those that change digits are named wherever runs are pooled."""

import json
from typing import Any

from resnet_lab.report.results import Result, Study
from resnet_lab.runs.directory import end_of
from resnet_lab.runs.identity import differences

# Conditions outside a run's identity: where in the record each stands.
CONDITIONS = {
    "processor": ("machine", "processor"),
    "torch": ("versions", "torch"),
    "device": ("device",),
    "kernels": ("kernels",),
    "threads": ("threads",),
    "channels_last": ("channels_last",),
    "compile": ("compile",),
    "code of their own": ("trusted_packages",),
    "number of images for the clean training error": ("config", "runtime", "final_train_images"),
}


def mixtures(study: Study) -> list[str]:
    """One sentence per condition under which not all completed runs were made, naming the runs of each."""
    return [told for name, path in CONDITIONS.items() if (told := mixture(study, name, path))]


def mixture(study: Study, name: str, path: tuple[str, ...]) -> str:
    runs: dict[str, list[str]] = {}
    for group in study.groups:
        for result in group.completed:
            runs.setdefault(json.dumps(found(result, path), sort_keys=True), []).append(run_of(group.name, result))
    if len(runs) < 2:
        return ""
    (usual, most), *others = sorted(runs.items(), key=lambda item: -len(item[1]))
    told = "; ".join(f"{', '.join(names)}: {shown(usual, value)}" for value, names in others)
    return (
        f"The runs were not all made under the same {name}, which moves their digits: {told}; "
        f"the other {len(most)}: {shown(usual, usual)}."
    )


def found(result: Result, path: tuple[str, ...]) -> Any:
    value: Any = result.record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def shown(usual: str, text: str) -> str:
    """A value; for a block, only where it differs from the usual one."""
    before, value = json.loads(usual), json.loads(text)
    if isinstance(value, dict) and isinstance(before, dict):
        return ", ".join(differences(before, value)) or "as most"
    return "not known" if value is None else value if isinstance(value, str) else text


def resumed(study: Study) -> list[str]:
    """One sentence per run that was resumed under other conditions, or with other code, than it began."""
    sentences = []
    for group in study.groups:
        for result in group.results:
            accepted = texts(result.record.get("accepted_changes"))
            noted = [change for stretch in stretches(result) for change in texts(stretch.get("changes"))]
            if changes := accepted or noted:
                kind = "other conditions, which was accepted" if accepted else "another machine or code"
                sentences.append(f"{run_of(group.name, result)} was resumed under {kind}: {'; '.join(changes)}.")
    return sentences


def stopped_early(study: Study) -> list[str]:
    """One sentence per run that a callback ended before its last iteration."""
    return [
        f"{run_of(group.name, result)} was stopped early by a callback, after iteration {end:,} of {planned:,}."
        for group in study.groups
        for result in group.completed
        if (end := end_of(result.record)) != (planned := result.config.get("iterations"))
    ]


def stretches(result: Result) -> list[dict[str, Any]]:
    earlier = result.record.get("earlier")
    return [stretch for stretch in earlier if isinstance(stretch, dict)] if isinstance(earlier, list) else []


def texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def run_of(name: str, result: Result) -> str:
    return f"{name} seed {result.seed}"
