"""The lab used from Python: a finished run as net, data, config and curves, and a table of runs."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

import resnet_lab as lab
from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute

Tiny = Callable[..., tuple[Run, dict[str, Any]]]


def test_the_readmes_cell_gives_the_recorded_error(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = tiny("model=cifar_resnet", "data.eval_batch_size=8", f"output_root={tmp_path}/outputs")
    assert execute(run, config) == 0
    readme = (ROOT / "README.md").read_text()
    (cell,) = re.findall(r"<!-- python -->\n```python\n(.*?)```\n<!-- /python -->", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(cell, names)
    assert names["test_error"] == run.record()["test_error"]
    assert str(run.record()["test_error"]) in capsys.readouterr().out


def test_a_finished_run_is_loaded(tiny: Tiny) -> None:
    run, config = tiny("data.holdout=10", "data.mean=per_channel", "data.std=[0.2,0.3,0.4]")
    assert execute(run, config) == 0
    loaded = lab.load(str(run.directory))
    assert not loaded.net.training
    record = run.record()
    for part, error in (("train", "train_error_clean"), ("val", "val_error"), ("test", "test_error")):
        with torch.no_grad():
            wrong = [loaded.net(images).argmax(1) != labels for images, labels in loaded.data.batches(part, 7)]
        assert 100 * torch.cat(wrong).sum().item() / sum(map(len, wrong)) == record[error]
    assert (loaded.config, loaded.record) == (config, record)
    assert [row["step"] for row in loaded.curves] == [2, 4, 6]
    assert loaded.curves[-1]["val_error"] == record["val_error"]


def test_what_is_no_finished_run_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    run, config = tiny()
    with pytest.raises(UserError, match=r"nowhere holds no run; give the folder of a run, one with a record.json"):
        lab.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"{tmp_path} holds no run; did you mean {run.directory}?"):
        lab.load(tmp_path)
    with pytest.raises(UserError, match="seed0 is not finished, but interrupted; the command that began it"):
        lab.load(run.directory)
    assert execute(run, config) == 0
    honest = run.record()
    run.update(config=config | {"iterations": 7})
    with pytest.raises(UserError, match=r"last.ckpt does not belong to the config in .*record.json"):
        lab.load(run.directory)
    run.update(config=config | {"job": "loading"})
    with pytest.raises(UserError, match="seed0 has trained nothing: its job is 'loading'"):
        lab.load(run.directory)
    run.update(**honest)
    with pytest.raises(UserError, match="seed0 is damaged: it is finished, and has weights of iteration 3 of 6"):
        lab.load(replaced(run))
    run.checkpoint_path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"last.ckpt is missing or damaged"):
        lab.load(run.directory)
    run.record_path.write_text("{")
    with pytest.raises(UserError, match=r"record.json is damaged"):
        lab.load(run.directory)


def test_a_damaged_curve_is_named(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    run.metrics_path.write_text("step,val_error\n6,x\n")
    with pytest.raises(UserError, match=r"metrics.csv is damaged .*force=true"):
        lab.load(run.directory)


def replaced(run: Run) -> Path:
    """The directory, with the checkpoint before the last in the place of the last."""
    run.checkpoint_path.write_bytes(run.checkpoint_path.with_name("previous-last.ckpt").read_bytes())
    return run.directory


def test_a_table_has_every_run(tiny: Tiny, tmp_path: Path) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    other, _ = tiny("seed=1")
    bad, _ = tiny("seed=2")
    bad.record_path.write_text("{")
    rows = lab.runs(tmp_path)
    assert [row["directory"] for row in rows] == [str(r.directory) for r in (run, other, bad)]
    assert [row["status"] for row in rows] == ["completed", "interrupted", "unreadable"]
    assert "record.json is damaged" in rows[2]["reason"]
    assert not any(isinstance(value, dict) for row in rows for value in row.values())
    expected = {"model.depth": 8, "seed": 0, "optimizer.lr": 0.1, "test_error": run.record()["test_error"]}
    assert rows[0].items() >= expected.items()
    assert lab.runs(tmp_path / "default")[0]["model.depth"] == 8
    with pytest.raises(UserError, match="nowhere does not exist; give a folder with runs in it"):
        lab.runs(tmp_path / "nowhere")


def test_pandas_takes_a_table(tiny: Tiny, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    for seed in (0, 1):
        tiny(f"seed={seed}")
    assert list(pandas.DataFrame(lab.runs(tmp_path))["seed"]) == [0, 1]


def test_neither_the_import_nor_a_table_takes_torch(tmp_path: Path) -> None:
    code = "import resnet_lab.runs.directory, sys; print(resnet_lab.runs('.'), 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout == "[] False\n"
    with pytest.raises(AttributeError, match="module 'resnet_lab' has no attribute 'loads'"):
        lab.loads  # noqa: B018
