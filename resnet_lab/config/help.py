"""`--help` with the comments of the config files beside the keys that they explain."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra._internal import hydra as hydra_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from resnet_lab.config.compose import CONF

KEY = re.compile(r"( *)(?:- )?([\w./]+):(?:.*?\s# (.*)|.*)")


class Hydra(hydra_module.Hydra):
    """Hydra, whose help explains each key that it lists."""

    def get_help(self, help_cfg: Any, cfg: Any, args_parser: Any, resolve: bool) -> str:
        text = super().get_help(help_cfg, cfg, args_parser, resolve)
        listed = OmegaConf.to_yaml(cfg, resolve=resolve)
        runtime = HydraConfig.get().runtime
        return text.replace(
            listed, explained(listed, comments(HydraConfig.get().job.config_name, runtime.choices))
        )


def register() -> None:
    """Make Hydra print the help above."""
    hydra_module.Hydra = Hydra  # type: ignore[misc]


def explained(listed: str, comments: Mapping[str, str]) -> str:
    """The lines of a YAML file with a comment behind each key that has one."""
    lines = listed.splitlines()
    for number, key, _ in keys_in(listed):
        if key in comments:
            lines[number] += f" # {comments[key]}"
    return "\n".join([*lines, ""])


def comments(config: str | None, choices: Mapping[str, str | None]) -> dict[str, str]:
    """The comments of conf/<config>.yaml and of the chosen option of each group, by dotted key."""
    own = comments_in(Path(CONF, f"{config}.yaml"))
    found = {key.removeprefix("defaults."): comment for key, comment in own.items()}
    for group, option in choices.items():
        inside = comments_in(Path(CONF, group, f"{option}.yaml")) if not group.startswith("hydra") else {}
        found |= {f"{group}.{key}": comment for key, comment in inside.items()}
    return found


def comments_in(path: Path) -> dict[str, str]:
    """The comments of a config file and of those of its group that it builds on; none if it is not the lab's."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    found: dict[str, str] = {}
    defaults: Any = OmegaConf.select(OmegaConf.create(text), "defaults")
    for base in defaults or ():
        if isinstance(base, str):
            found |= comments_in(path.with_name(f"{base}.yaml"))
    return found | {key: comment for _, key, comment in keys_in(text) if comment}


def keys_in(text: str) -> Iterator[tuple[int, str, str | None]]:
    """For each line of a YAML file with a key: its number, the dotted key, and the comment behind it."""
    above: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        if found := KEY.fullmatch(line):
            indentation = len(found[1])
            above = [(depth, name) for depth, name in above if depth < indentation]
            above.append((indentation, found[2]))
            yield number, ".".join(name for _, name in above), found[3]
