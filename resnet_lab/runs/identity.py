"""A run's identity: all of its config but the seed and where or how it is executed. No torch."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from resnet_lab.runs.jobs import job_of

OF = "of:"  # before the name of an experiment whose run of the same net and seed gives the first weights

# Where and how a run is executed; everything else identifies it.
DERIVED = {"hydra", "run_name", "run_dir"}  # from the identity, so not part of it
EXECUTION = {
    "": {
        "seed",
        "experiment_name",
        "run_name",
        "run_dir",
        "output_root",
        "force",
        "runtime",
        "hydra",
        "verdict",
        "analyses",
        "analyze_at",
        "logger",
        "weights",  # weights count by their checksum, not their path
    },
    "data": {"root", "num_workers", "prefetch", "allow_unreadable", "max_images", "max_pixels"},
    "runtime": {"final_train_images"},  # jobs whose identity includes the rest have no final test
    "trainer": {"accelerator", "devices", "num_nodes", "strategy", "profiler"},
}

# Keys added when runs already had names. At these values, which all nets had before, they are left out of the
# identity: names stay, and earlier runs are still skipped, resumed and pooled.
LATER: dict[str, dict[str, Any]] = {
    "resnet_lab.models.googlenet": {"norm": "batch"},
    "resnet_lab.models.vgg": {"width": 64},
    "resnet_lab.models.resnet_cifar": {
        "norm": "batch",
        "activation": "relu",
        "initialization": "he",
        "layers_per_block": 2,
    },
}
LATER_KEYS: dict[str, Any] = {
    "task": {"_target_": "resnet_lab.tasks.Classification"},
    "weights_sha256": None,
    "weights_head": "keep",
    "freeze": [],
    "callbacks": None,
    "label_smoothing": 0.0,
    "mixup": 0.0,
}


def run_name(config: dict[str, Any]) -> str:
    """A readable name and a short hash of what identifies the run."""
    return f"{label(config)}-{hash_of(identity(config))}"


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that distinguishes experiments, whatever the seed and machine."""
    job = job_of(config)
    execution = EXECUTION[""] - ({"runtime"} if job and job.about_runtime else set())
    kept = {key: value for key, value in config.items() if key not in execution and not is_later(key, value)}
    for block in ("data", "trainer", "runtime"):
        if isinstance(kept.get(block), dict):
            kept[block] = {k: v for k, v in kept[block].items() if k not in EXECUTION[block]}
    if isinstance(kept.get("data"), dict):
        kept["data"] = identity_of_data(kept["data"], config["data"].get("root"))
    if is_of_experiment(config):
        # each seed has weights of its own, which all come from the same recipe
        kept["weights"] = config["weights"]
        kept.pop("weights_sha256", None)
    if isinstance(kept.get("model"), dict):
        later = later_settings(kept["model"])
        kept["model"] = {k: v for k, v in kept["model"].items() if k not in later or v != later[k]}
    return kept


def is_of_experiment(config: dict[str, Any]) -> bool:
    return str(config.get("weights")).startswith(OF)


def of_seed(config: dict[str, Any]) -> dict[str, Any]:
    """What tells a run from those of other seeds."""
    weights = {"weights_sha256": config.get("weights_sha256")} if is_of_experiment(config) else {}
    return {"seed": config.get("seed")} | weights


def is_later(key: str, value: Any) -> bool:
    """Whether a key has the value that all runs had before the key existed."""
    return key in LATER_KEYS and (value == LATER_KEYS[key] or (key == "callbacks" and not value))


def later_settings(model: dict[str, Any]) -> dict[str, Any]:
    """The settings of a net that its identity leaves out, with the values at which it does."""
    return LATER.get(str(model.get("_target_")), {})


def identity_of_data(data: dict[str, Any], root: Any) -> dict[str, Any]:
    target = data.get("_target_")
    # keys added when runs already had names: null leaves the names as they are
    unsaid = {"subset", "policy"} | (set() if target == "resnet_lab.data.ImageNet" else {"std"})
    said = {key: value for key, value in data.items() if value is not None or key not in unsaid}
    # the folder's name, not its place, tells one set of images from another
    return said | ({"root": Path(str(root)).name} if target == "resnet_lab.data.ImageFolder" else {})


def run_differences(before: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Differences between two configs that make them different runs."""
    old, new = (identity(c) | of_seed(c) for c in (before, config))
    return differences(old, new)


def hash_of_run(config: dict[str, Any]) -> str:
    """Hash of the run's identity, including the seed."""
    return hash_of(identity(config) | of_seed(config))


def differences(before: Any, after: Any, name: str = "") -> list[str]:
    """Where two resolved configs differ, as `model.depth=20 (was 56)`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [f"{name}={after!r} (was {before!r})"]
    found = []
    for key in sorted(before.keys() | after.keys()):
        found += differences(before.get(key), after.get(key), f"{name}.{key}".lstrip("."))
    return found


def hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def label(config: dict[str, Any]) -> str:
    """The net's name for people: `plain-20`, `resnet-56-A`, or a function's name and the settings that vary."""
    model = config["model"]
    name = str(model.get("_target_", "")).rpartition(".")[2]
    shortcut = model.get("shortcut")
    if name.startswith("resnet_"):
        name = "plain" if shortcut == "none" else "resnet"
    words = [name, model.get("depth"), shortcut if shortcut != "none" else None, model.get("module")]
    words += ["bn"] if model.get("batch_norm") is True else []
    return sanitize("-".join(str(word) for word in words if word is not None))


def sanitize(name: str) -> str:
    """The name as one path component of letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "unnamed"
