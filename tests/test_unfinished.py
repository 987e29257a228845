"""Rows kept while an analysis goes on: what was whole is found again, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resnet_lab.checks import UserError
from resnet_lab.runs.unfinished import unfinished

KEY = {"weights": "abc", "settings": {"points": 3}}
ROWS = [{"x": 1, "loss": 0.5}, {"x": 2, "loss": float("inf")}, {"x": 3, "loss": 0.1}]


def killed_after(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from rows
    raise InterruptedError


def interrupted(path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(InterruptedError), unfinished(path, KEY) as (_, keep):
        keep(killed_after(rows))


def test_the_next_time_begins_where_the_last_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    interrupted(path, ROWS[:1])
    interrupted(path, ROWS[1:2])  # the rows that are left
    with unfinished(path, KEY) as (before, keep):
        assert before == ROWS[:2]
        assert keep(ROWS[2:]) == ROWS
    assert not path.exists()


@pytest.mark.parametrize("key", [{}, KEY | {"weights": "abd"}])
def test_rows_of_something_else_are_dropped(tmp_path: Path, key: dict[str, Any]) -> None:
    interrupted(tmp_path / "rows", ROWS)
    with unfinished(tmp_path / "rows", key) as (before, _):
        assert before == []


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows"
    interrupted(path, ROWS)
    path.write_bytes(path.read_bytes()[:-cut])
    with unfinished(path, KEY) as (before, keep):
        assert before == ROWS[: len(before)]
        assert len(before) < 3
        assert keep(ROWS[len(before) :]) == ROWS


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1]\n" * 3, b"[" * 100_000 + b"\n", b""])
def test_whatever_else_lies_there_counts_as_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows").write_bytes(content)
    with unfinished(tmp_path / "rows", KEY) as (before, keep):
        assert keep(ROWS) == ROWS
        assert before == []


def test_two_at_once_and_a_link_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with unfinished(path, KEY), pytest.raises(UserError, match="is in use by another analysis"):
        unfinished(path, KEY).__enter__()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="not a regular file"):
        unfinished(tmp_path / "link", KEY).__enter__()
    assert not (tmp_path / "other").exists()


def test_nothing_is_left_of_what_kept_nothing(tmp_path: Path) -> None:
    interrupted(tmp_path / "rows", [])
    assert not (tmp_path / "rows").exists()
