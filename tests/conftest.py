"""What the tests share: the real command line, and runs of the real configs, shrunk."""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from hydra import compose, initialize_config_dir

from resnet_lab.config import hydra_block
from resnet_lab.config.compose import CONF, freeze, register_resolvers
from resnet_lab.runs.directory import Run
from resnet_lab.runs.signals import SIGNALS
from resnet_lab.runs.start import prepare
from resnet_lab.sweeps.launcher import register_launchers

ROOT = Path(__file__).parent.parent
# a net of 8 layers and 4 channels on 40 images: less than a second
TINY = [
    "data=synthetic",
    "data.train_images=40",
    "data.test_images=21",
    "data.image_size=8",
    "data.batch_size=16",
    "model.depth=8",
    "model.width=4",
    "iterations=6",
    "runtime.threads=1",
]
HANDLERS = {number: signal.getsignal(number) for number in SIGNALS}

# small nets are fastest so, and what they compute is the same on every machine of one kind
torch.set_num_threads(1)

register_resolvers()
register_launchers()
hydra_block.register()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", metavar="FILE", help="where `-m chaos` notes what it did")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None, as many as there are cores, unless files are named or the tests want the machine to themselves."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return None if everything and config.option.markexpr not in ("slow", "chaos", "gpu") else 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")


def pytest_sessionfinish() -> None:
    if forked.nursery.cache_info().currsize:
        forked.nursery().end()


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for what supervisors that were killed leave; this process keeps its own, which it tidies up later.

    Its path is short, because those of the sockets that are made within it must be.
    """
    tmp_path_factory.getbasetemp()  # which is not to lie in it
    short = tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True)
    with short as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """A test that fails has no chance to end what it started; fixtures of wider scope have begun before."""
    before = len(forked.STARTED)
    yield
    forked.kill_all_but(before)


@pytest.fixture(autouse=True)
def _same_signal_handlers() -> Iterator[None]:
    """Runs in this process set handlers for a process that ends with them; those of wider fixtures come before."""
    restore_handlers()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    restore_handlers()


def restore_handlers() -> None:
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


def frozen(folder: Path, *overrides: str) -> dict[str, Any]:
    """The config of `resnet-lab OVERRIDES`, with its outputs in the folder."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return freeze(compose("train", [f"output_root={folder}", *overrides]))


@pytest.fixture
def composed(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The frozen config of `resnet-lab OVERRIDES`, with its outputs in a temporary folder."""
    return partial(frozen, tmp_path)


@pytest.fixture
def tiny(composed: Callable[..., dict[str, Any]]) -> Callable[..., tuple[Run, dict[str, Any]]]:
    """A tiny run, prepared: its directory and its config."""

    def prepared(*overrides: str) -> tuple[Run, dict[str, Any]]:
        config = composed(*TINY, *overrides)
        run = prepare(config)
        assert run is not None
        return run, config

    return prepared


@pytest.fixture
def resnet_lab(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of ours in a temporary folder: resnet_lab("train", "model.depth=8")."""

    def call(module: str, *arguments: str, fresh: bool = False) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        if fresh:  # it is going to start itself again
            command = [sys.executable, "-m", f"resnet_lab.{module}", *arguments]
            return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        return forked.run(tmp_path, f"resnet_lab.{module}", *arguments, environ=environ)

    return call


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command of ours says as it refuses: main("eval", "runs=x"), in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    for place in ("hydra.core.utils", "hydra._internal.hydra"):  # it would disable the loggers of later tests
        monkeypatch.setattr(f"{place}.configure_log", lambda *_: None)

    def called(module: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"resnet-lab-{module}", *arguments])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(f"resnet_lab.{module}").main()
        assert ended.value.code not in (0, None)
        return str(ended.value.code)

    return called
