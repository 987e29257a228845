"""Changes since a run was interrupted: refused, accepted and marked, or only noted. Imports no torch."""

import logging
from typing import Any, NamedTuple

from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import differences
from resnet_lab.runs.provenance import commit_of

log = logging.getLogger(__name__)

CONDITIONS = ("processes", "threads", "device", "channels_last", "compile", "strategy")
ORIGIN = ("kernels", "versions", "machine", "git", "trusted_packages")
# Packages that compute nothing that goes into a net or an image.
HARMLESS = {"python", "resnet-lab", "hydra-core", "omegaconf"}


class Changes(NamedTuple):
    """Differences between two records, as `threads=2 (was 1)`."""

    images: list[str]
    digits: list[str]  # those that may change digits of the results
    other: list[str]


def find_changes(before: dict[str, Any], now: dict[str, Any]) -> Changes:
    """Find the differences; a fact that an older record lacks is unknown, not different."""
    conditions = differences({name: before.get(name) for name in CONDITIONS}, {n: now[n] for n in CONDITIONS})
    versions, machine = (known(before, now, block) for block in ("versions", "machine"))
    computing = [d for d in versions if package(d) not in HARMLESS] + known(before, now, "trusted_packages")
    # the block `kernels` has the processor, too, but older records lack the block
    elsewhere = [d for d in machine if d.startswith("machine.processor=")]
    kernels = known(before, now, "kernels") if before.get("kernels") else elsewhere
    harmless = [d for d in versions + machine if d not in computing + elsewhere]
    return Changes(
        images=known(before, now, "data"),
        digits=[*conditions, *kernels, *computing],
        other=[*harmless, *other_code(before, now)],
    )


def known(before: dict[str, Any], now: dict[str, Any], block: str) -> list[str]:
    """Differences in what both records have in the block of that name."""
    then, here = before.get(block), now.get(block)
    if not isinstance(then, dict) or not isinstance(here, dict):
        return []
    return differences({k: then[k] for k in then if k in here}, {k: here[k] for k in here if k in then}, block)


def other_code(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Another commit, where the earlier record says which it was."""
    if "git" not in before or before["git"] == now["git"]:
        return []
    here, then = (commit_of(record["git"]) or "no checkout" for record in (now, before))
    return [f"commit={here} (was {then})"]


def package(difference: str) -> str:
    return difference.removeprefix("versions.").partition("=")[0]


def history(
    run: Run, before: dict[str, Any], now: dict[str, Any], iteration: int, accept: bool
) -> dict[str, list[Any]]:
    """Facts for the record about the run before it is resumed at `iteration`.

    `earlier` has a stretch per change: `until` which iteration, `changes` after it, and where its numbers come
    from. `accepted_changes` names those that may change digits, for readers.

    Raises:
        UserError: the images are others; or what may change the digits is, and that is not accepted.
    """
    images, digits, other = find_changes(before, now)
    kept = {name: list(before.get(name) or []) for name in ("earlier", "accepted_changes")}
    if images:
        raise UserError(
            f"{run.directory} cannot be resumed under other conditions: {', '.join(images + digits)}; "
            "set data.root as it was, or force=true to start anew"
        )
    if digits and not accept:
        raise UserError(
            f"{run.directory} cannot be resumed under other conditions: {', '.join(digits)}; resume it as it "
            "began, or add runtime.accept_changes=true, which marks the run permanently, or force=true to start "
            "anew"
        )
    if not digits + other:
        return kept
    if digits:
        log.warning("changed from iteration %d on, as accepted: %s", iteration, ", ".join(digits))
    if other:
        log.warning("resumed with another machine or code: %s", ", ".join(other))
    stretch = {"until": iteration, "changes": digits + other}
    stretch |= {name: before[name] for name in CONDITIONS + ORIGIN if name in before}
    accepted = [f"{', '.join(digits)}, from iteration {iteration} on"] if digits else []
    return {
        "earlier": [*kept["earlier"], stretch],
        "accepted_changes": [*kept["accepted_changes"], *accepted],
    }
