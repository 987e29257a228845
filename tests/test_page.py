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
    whole = in_browser(page, drag + "document.getElementById('whole').click()")
    assert ticks(whole) == ticks(plain)
