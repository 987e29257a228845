"""A page as a browser has it, where one is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def in_browser(page: Path, script: str, first: str = "") -> str:
    """The page's elements after two scripts, at its beginning and its end, which no page lets in by itself."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = page.with_name("copy.html")
    text = text.replace("<title>", f"<script>{first}</script><title>", 1)
    copy.write_text(text.replace("</html>", f"<script>{script}</script></html>"))
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += f" --disable-component-update --disable-sync --user-data-dir={page.parent}/browser --dump-dom"
    done = subprocess.run([browser, *options.split(), copy.as_uri()], capture_output=True, text=True, timeout=120)
    return done.stdout
