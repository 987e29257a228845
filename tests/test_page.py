"""The curves of the HTML page, in a browser."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_report import add_run

from resnet_lab.report import write_report


def in_browser(page: Path, script: str) -> str:
    """The page's elements after the script, which no page lets in by itself."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = page.with_name("copy.html")
    copy.write_text(text.replace("</html>", f"<script>{script}</script></html>"))
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += f" --disable-component-update --disable-sync --user-data-dir={page.parent}/browser --dump-dom"
    done = subprocess.run([browser, *options.split(), copy.as_uri()], capture_output=True, text=True, timeout=120)
    return done.stdout


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
