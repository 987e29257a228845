"""The command line of a run: the words that were typed, and a line that reproduces a stored run. No torch."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.config import hydra_block
from resnet_lab.config.compose import CONF, freeze, register_resolvers
from resnet_lab.config.hydra_errors import sentence
from resnet_lab.runs.identity import run_differences

FOLDER = "--config-dir="
SEARCHPATH = "hydra.searchpath="
GROUPS = ("model", "data", "optimizer", "schedule", "trainer")
# Keys that follow from the others, or say nothing about the run.
UNSAID = ("run_dir", "run_name", "force", "analyses", "analyze_at", "weights_sha256")
# Text that needs no quotes: Hydra reads it as text and as nothing else.
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_/][\w./-]*", re.IGNORECASE)


def typed() -> list[str]:
    """The words typed for the run being composed, with its own values if it is a job of a sweep.

    Trusted packages are left out, as a record must not cause code to run.
    """
    hydra = HydraConfig.get()
    folders = [
        f"{FOLDER}{place.path}" for place in hydra.runtime.config_sources if place.provider == "command-line"
    ]
    places = [line for line in hydra.overrides.hydra if line.startswith(SEARCHPATH)]
    return [*folders, *places, *hydra.overrides.task]


def command_line(record: dict[str, Any]) -> str:
    """A shell command that reproduces the record's run: as typed, or else as differences from the defaults.

    Raises:
        UserError: there is none, because something that the run needs no longer exists or is not trusted.
    """
    register_resolvers()
    hydra_block.register()
    config, refusal = record["config"], "the record has no command"
    for words in (record.get("command"), None):
        try:
            words = derived(config) if words is None else checked(words)
            words, found = composed(words)
        except UserError as error:
            refusal = str(error)
            continue
        if not (differs := run_differences(config, found)):
            return shlex.join(["resnet-lab", *trust.arguments(), *words])
        refusal = f"the current configs give another run: {', '.join(differs)}"
    raise UserError(f"there is no command line for this run; {refusal}")


def checked(words: Any) -> list[str]:
    """Check the words of a record, which its author may have chosen for what they do in a shell or to Hydra."""
    if not isinstance(words, list) or not all(isinstance(word, str) and word.isprintable() for word in words):
        raise UserError("its command is not a list of words")
    for word in words:
        if not word.startswith((FOLDER, SEARCHPATH)) and re.match(r"-|[+~]*hydra\b", word):
            raise UserError(f"its command has {word!r}, which is not a value of a run")
    return words


def composed(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The words, extended so that an experiment's sweep becomes one run, and the config they compose to.

    Raises:
        UserError: Hydra does not accept the words.
    """
    folders = [word.removeprefix(FOLDER) for word in words if word.startswith(FOLDER)]
    overrides = [word for word in words if not word.startswith(FOLDER)]
    extra = [f"{SEARCHPATH}[{','.join(value(f'file://{folder}') for folder in folders)}]"] if folders else []
    try:
        with initialize_config_dir(CONF, version_base="1.3"):
            cfg = compose("train", [*extra, *overrides], return_hydra_config=True)
        mode = [] if cfg.hydra.mode in (None, RunMode.RUN) else ["hydra.mode=RUN"]
        alone = ["analyses=[]"] if cfg.analyses else []  # analyses belong to a sweep
        return [*words, *mode, *alone], freeze(cfg)
    except CompactHydraException as error:
        raise UserError(sentence(error)) from error


def derived(config: dict[str, Any]) -> list[str]:
    """A frozen config's differences from the defaults, as overrides."""
    _, defaults = composed([])
    other = [key for key in config if key not in UNSAID and config[key] != defaults.get(key)]
    words = [f"{key}={nearest(key, config[key])}" for key in other if key in GROUPS]
    words += chosen("callbacks", config) + chosen("logger", config)
    words += [f"{key}={value(config[key])}" for key in other if not isinstance(config[key], dict)]
    _, base = composed(words)
    for key in other:
        if isinstance(config[key], dict):
            words += changes(key, base.get(key), config[key])
    _, found = composed(words)
    named = [f"run_name={value(config['run_name'])}"] if found["run_name"] != config["run_name"] else []
    return checked([*words, *named])


def chosen(group: str, config: dict[str, Any]) -> list[str]:
    """The override that selects the lab's own entries of the group."""
    names = [name for name in config.get(group) or () if Path(CONF, group, f"{name}.yaml").is_file()]
    return [f"{group}=[{','.join(names)}]"] if names else []


def nearest(group: str, block: dict[str, Any]) -> str:
    """The config of the group that has the most in common with the block."""
    files = sorted(Path(CONF, group).glob("*.yaml"))
    return max(files, key=lambda file: alike(OmegaConf.load(file), block)).stem


def alike(file: Any, block: dict[str, Any]) -> tuple[bool, int]:
    found: Any = OmegaConf.to_container(file) if isinstance(file, DictConfig) else {}
    same = sum(found[key] == block[key] for key in found.keys() & block.keys())
    return found.get("_target_") == block.get("_target_"), 2 * same - len(found)


def changes(name: str, before: Any, after: Any) -> Iterator[str]:
    """Overrides that turn the first value into the second."""
    if isinstance(before, dict) and isinstance(after, dict) and after:
        yield from (f"~{name}.{key}" for key in before if key not in after and before[key] is not None)
        for key in after:
            if key in before:
                yield from changes(f"{name}.{key}", before[key], after[key])
            else:
                yield f"+{name}.{key}={value(after[key])}"
    elif before != after:
        yield f"{name}={value(after)}"


def value(of: Any) -> str:
    """The value in the form in which Hydra reads it from an override."""
    if isinstance(of, list):
        return f"[{','.join(map(value, of))}]"
    if isinstance(of, dict):
        return f"{{{','.join(f'{key}:{value(held)}' for key, held in of.items())}}}"
    if isinstance(of, str):
        quoted = of.replace("\\", "\\\\").replace("'", "\\'")
        return of if PLAIN.fullmatch(of) else f"'{quoted}'"
    if of is None or isinstance(of, bool):
        return {None: "null", True: "true", False: "false"}[of]
    return repr(of)
