"""The curves of the HTML page, in a browser."""

import re
from pathlib import Path

from browser import in_browser
from test_report import add_run

from resnet_lab.report import write_report


def ticks(shown: str) -> list[str]:
    return re.findall(r'<text x="39"[^>]*>([^<]*)</text>', shown)


def test_a_log_switch_and_a_zoom(tmp_path: Path) -> None:
    for depth, error in ((20, 4.0), (56, 0.5)):
        add_run(tmp_path, depth, "A", 0, error)
    page = write_report([tmp_path], tmp_path)
    plain = in_browser(page, "")
    assert "error (%)<" in plain
    assert ticks(plain)[:2] == ["0", "10"]
    switched = in_browser(page, "document.getElementById('log').click()")
    assert "error (%), log scale<" in switched
    assert {"1", "10"} <= set(ticks(switched))
    assert "0" not in ticks(switched)
    assert "NaN" not in switched
    drag = (
        "const p = document.querySelector('.panel'), b = p.firstChild.getBoundingClientRect();"
        "const at = part => ({bubbles: true, clientX: b.left + b.width * part, clientY: b.top + 50});"
        "p.dispatchEvent(new MouseEvent('mousedown', at(0.5)));"
        "p.dispatchEvent(new MouseEvent('mouseup', at(0.95)));"
    )
    zoomed = in_browser(page, drag)
    assert zoomed.count("<path") > 0
    assert "NaN" not in zoomed
    firsts = [re.search(r'text-anchor="middle">([\d,]+)</text>', shown) for shown in (plain, zoomed)]
    assert [int(found[1].replace(",", "")) > 0 for found in firsts if found] == [False, True]
    hover = (
        "const p = document.querySelector('.panel'), b = p.firstChild.getBoundingClientRect();"
        "p.dispatchEvent(new MouseEvent('mousemove', {clientX: b.left + b.width * WHERE, clientY: b.top + 50}));"
    )
    assert len(re.findall(r": train \d", in_browser(page, hover.replace("WHERE", "0.5")))) == 2
    whole = in_browser(page, drag + "document.getElementById('whole').click()")
    assert ticks(whole) == ticks(plain)


def test_a_net_is_not_told_beyond_its_last_iteration(tmp_path: Path) -> None:
    runs = [add_run(tmp_path, depth, "A", 0, 4.0, status="interrupted") for depth in (20, 56)]
    for run in runs:
        run.update(config=run.record()["config"] | {"iterations": 40})
    longer = runs[1]
    rows = longer.metrics_path.read_text().splitlines()
    last = rows[-1].split(",")
    longer.metrics_path.write_text("\n".join([*rows, ",".join(["40", *last[1:]])]) + "\n")
    page = write_report([tmp_path], tmp_path)
    hover = (
        "const p = document.querySelector('.panel'), b = p.firstChild.getBoundingClientRect();"
        "p.dispatchEvent(new MouseEvent('mousemove', {clientX: b.left + b.width * 0.97, clientY: b.top + 50}));"
    )
    shown = in_browser(page, hover)
    assert "iteration 40<" in shown
    assert len(re.findall(r": train \d", shown)) == 1
