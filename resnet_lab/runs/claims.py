"""Claims that an experiment's config states before its runs, and its report judges. Standard library only.

    verdict:
      claims:
        worse: # any name
          say: Plain-56 ends at a higher training error than plain-20
          measure: train_error
          of: {model.depth: 56, model.shortcut: none} # settings of the net, as the command line names them
          is: more # or less, alike; with `over`, rising or falling
          than: {model.depth: 20, model.shortcut: none} # another net, or a number
          by: 0 # by more than this; with alike, a difference that still counts as none

With `over: model.depth` the claim is about all nets that match `of`, in the order of that setting, without `than`.

`measure` is an error of the record, or a block of one entry:
    {iterations_below: 10}                                   the iteration from which the running training error
                                                             stays below this many percent
    {responses: {at: last, column: std, take: mean}}         of the rows of an analysis: mean, median, least, most,
                                                             total, first, last, or growth, the slope of log10 of
                                                             the column per row; `at` may be an iteration
"""

from typing import Any, NamedTuple

from resnet_lab.checks import UserError, hint
from resnet_lab.runs.validity import ERRORS, is_number

ITERATIONS = "iterations_below"
TAKE = ("mean", "median", "least", "most", "total", "first", "last", "growth")
IS = ("more", "less", "alike")
TRENDS = ("rising", "falling")
TIMES: dict[str | int, str] = {"initialization": "at initialization", "last": "after training"}
KEYS = ("say", "measure", "of", "is", "than", "by", "over")
MOST_CLAIMS = 100


class Measure(NamedTuple):
    """The quantity compared: an error of the record, iterations, or a number from the rows of an analysis."""

    name: str
    threshold: float = 0.0
    at: str | int = ""
    column: str = ""
    take: str = ""

    @property
    def is_error(self) -> bool:
        return self.name in ERRORS

    @property
    def told(self) -> str:
        if self.is_error:
            return self.name.replace("_", " ")
        if self.name == ITERATIONS:
            return f"iterations until the training error stays below {self.threshold:g} %"
        when = TIMES.get(self.at, f"after {self.at} iterations")
        return f"{self.name} {when}, {self.take} of {self.column.replace('_', ' ')}"


class Claim(NamedTuple):
    name: str
    say: str
    measure: Measure
    of: dict[str, Any]
    how: str
    than: dict[str, Any] | float
    by: float
    over: str


def read_claims(block: Any, where: str = "verdict.claims") -> list[Claim]:
    """The claims of a config.

    Raises:
        UserError: a claim lacks a key, or has one that is unknown.
    """
    if block is None:
        return []
    if not isinstance(block, dict) or len(block) > MOST_CLAIMS:
        raise UserError(
            f"{where} must be a block of at most {MOST_CLAIMS} claims, each under a name; got {block!r}"
        )
    return [read_claim(str(name), claim, f"{where}.{name}") for name, claim in block.items()]


def read_claim(name: str, claim: Any, where: str) -> Claim:
    if not isinstance(claim, dict):
        raise UserError(f"{where} must be a block with {', '.join(KEYS)}; got {claim!r}")
    for key in claim:
        if key not in KEYS:
            raise UserError(f"{where}.{key} is not a setting here; {hint(str(key), KEYS, f'{where}.')}")
    over, than, by = claim.get("over"), claim.get("than", 0), claim.get("by", 0)
    if not isinstance(claim.get("say"), str) or not claim["say"]:
        raise UserError(f"{where}.say must be a sentence; got {claim.get('say')!r}")
    if not isinstance(claim.get("of", {}), dict):
        raise UserError(f"{where}.of must be settings of nets, such as {{model.depth: 56}}; got {claim['of']!r}")
    if claim.get("is") not in (TRENDS if over else IS):
        raise UserError(f"{where}.is must be one of {', '.join(TRENDS if over else IS)}; got {claim.get('is')!r}")
    if over and (not isinstance(over, str) or "than" in claim or "by" in claim):
        raise UserError(f"{where}.over must be one setting, such as model.depth, without than and by")
    if not over and not isinstance(than, dict) and not is_number(than):
        raise UserError(f"{where}.than must be settings of nets, such as {{model.depth: 20}}, or a number")
    if not is_number(by) or by < 0 or (claim["is"] == "alike" and not by):
        raise UserError(f"{where}.by must be a number, 0 or more, and above 0 with is: alike; got {by!r}")
    measure = read_measure(claim.get("measure"), f"{where}.measure")
    than = than if isinstance(than, dict) else float(than)
    return Claim(name, claim["say"], measure, claim.get("of", {}), claim["is"], than, float(by), over or "")


def read_measure(measure: Any, where: str) -> Measure:
    if isinstance(measure, str):
        if measure not in ERRORS:
            raise UserError(f"{where} must be one of {', '.join(ERRORS)}, or a block; got {measure!r}")
        return Measure(measure)
    if not isinstance(measure, dict) or len(measure) != 1:
        raise UserError(f"{where} must be one of {', '.join(ERRORS)}, or a block of one entry; got {measure!r}")
    ((name, settings),) = measure.items()
    if name == ITERATIONS:
        if not is_number(settings):
            raise UserError(f"{where}.{name} must be a training error in percent; got {settings!r}")
        return Measure(name, threshold=float(settings))
    if not isinstance(settings, dict) or settings.keys() != {"at", "column", "take"}:
        raise UserError(f"{where}.{name} must have at, column and take; got {settings!r}")
    texts = [settings["column"], settings["take"], "" if is_number(settings["at"]) else settings["at"]]
    if settings["take"] not in TAKE or not all(isinstance(value, str) for value in texts):
        raise UserError(f"{where}.{name}.take must be one of {', '.join(TAKE)}; got {settings['take']!r}")
    return Measure(str(name), **settings)
