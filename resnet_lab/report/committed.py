"""runs.jsonl: what a report needs of each run, in one line per run, so that it can be committed and drawn again
where the run directories are not at hand."""

import json
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.files import read_regular
from resnet_lab.report.results import CURVES, Curve, Result, Study, check_record
from resnet_lab.runs.directory import MOST_METRICS
from resnet_lab.runs.rows import packed, unpacked
from resnet_lab.runs.validity import check_curve, check_evaluation

NAME = "runs.jsonl"
# Of the record; the rest is about one place and time.
LEFT_OUT = {"command", "traceback", "started", "ended"}
PLACES = {"run_dir", "output_root"}


def runs_jsonl(study: Study) -> str:
    return "".join(f"{json.dumps(line(result), sort_keys=True)}\n" for result in study.results)


def line(result: Result) -> dict[str, Any]:
    record = {key: value for key, value in result.record.items() if key not in LEFT_OUT}
    if "weights" in record:  # the checksum says which, the rest where they lay
        record["weights"] = {"sha256": record["weights"].get("sha256")}
    if "config" in record:
        record["config"] = {key: value for key, value in record["config"].items() if key not in PLACES}
        if weights := record["config"].get("weights"):
            record["config"]["weights"] = Path(weights).name
        record["config"]["data"] = without_place(result.config.get("data", {}))
    return {
        "run": "/".join(result.directory.parts[-3:]),
        "status": result.status,
        "reason": result.reason,
        "record": record,
        "curve": result.curve._asdict(),
        "evaluations": result.evaluations,
        **({"analyses": [packed(found) for found in result.analyses]} if result.analyses else {}),
    }


def without_place(data: dict[str, Any]) -> dict[str, Any]:
    """Without its folder; of a folder of images the name remains, which tells one set of images from another."""
    named = data.get("_target_") == "resnet_lab.data.ImageFolder"
    root = {"root": Path(str(data["root"])).name} if named and "root" in data else {}
    return {key: value for key, value in data.items() if key != "root"} | root


def read_committed(folder: Path) -> list[Result]:
    """The runs of a folder's runs.jsonl; a line that does not hold together costs its own run alone."""
    path = folder / NAME
    lines = read_regular(path, MOST_METRICS).splitlines() if path.is_file() else []
    return [parse(text, folder, number) for number, text in enumerate(lines, 1)]


def parse(text: str, folder: Path, number: int) -> Result:
    try:
        found = json.loads(text)
        curve = Curve(*(list(found["curve"][name]) for name in Curve._fields))
        result = Result(
            folder / str(found["run"]),
            str(found["status"]),
            str(found["reason"]),
            dict(found["record"]),
            curve,
            [check_evaluation(entry) for entry in found["evaluations"]],
            [unpacked(entry) for entry in found.get("analyses", [])],
        )
        if result.record or result.status == "completed":
            check_curve(curve.steps, {key: getattr(curve, key) for key in CURVES})
            check_record(result.record, curve)
    except (
        UserError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = f"line {number} of {NAME}: {type(error).__name__}: {error}"
        return Result(folder / "runs" / str(number), "unreadable", reason)
    return result
