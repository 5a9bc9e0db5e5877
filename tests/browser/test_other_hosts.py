"""Notebook 7, Voilà and marimo, started for real: a click masks a word, and Python's answer is drawn."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CELL = """import workbench as wb
from workbench.widgets import MaskedFilling
MaskedFilling(wb.load_bert(device="cpu"), "The cat sat on the mat.")"""
MARIMO = "import marimo\n\napp = marimo.App()\n\n\n@app.cell\ndef _():\n    {}\n    return\n\n\napp.run()\n"
ALONE = ["--allow-root", "--no-browser", "--IdentityProvider.token="]
HOSTS = {
    "notebook": ["notebook", *ALONE, "--ServerApp.port={port}", "--ServerApp.root_dir={folder}"],
    "voila": ["voila", "{folder}/lesson.ipynb", "--no-browser", "--port={port}", "--Voila.root_dir={folder}"],
    "marimo": ["marimo", "run", "{folder}/lesson.py", "--headless", "--no-token", "--port={port}"],
}
SCREENSHOTS = os.environ.get("HOST_SCREENSHOTS")  # a folder: what is seen there


@pytest.fixture(params=HOSTS)
def page(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The widget in a page of this host; at the end nothing may have gone wrong, nor left the machine."""
    host = request.param
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(metadata=kernel, cells=[nbformat.v4.new_code_cell(CELL)])
    nbformat.write(notebook, tmp_path / "lesson.ipynb")
    (tmp_path / "lesson.py").write_text(MARIMO.format(CELL.replace("\n", "\n    ")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "RUNTIME", "DATA")}
    command = [part.format(port=port, folder=tmp_path) for part in HOSTS[host]]
    with (tmp_path / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=tmp_path, env=os.environ | folders, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    # Notebook 7 has an error of its own about settings; our modules come from blobs.
    ours = lambda error: host != "notebook" or "blob:" in (error.stack or "")  # noqa: E731
    opened.on("pageerror", lambda error: faults.append(str(error)) if ours(error) else None)
    opened.route(is_outside, lambda route: route.abort())
    icons = "fontawesome"  # Voilà's own come from outside; it does without
    opened.on(
        "request",
        lambda one: faults.append(one.url) if is_outside(one.url) and icons not in one.url else None,
    )
    try:
        wait_for(port, server, tmp_path / "log.txt")
        place = f"{address}/notebooks/lesson.ipynb" if host == "notebook" else address
        opened.goto(place, timeout=180_000)  # Voilà runs the cells first
        if host == "notebook":
            opened.locator(".jp-Notebook .cm-content").first.click(timeout=60_000)
            ready = ".jp-Notebook-ExecutionIndicator[data-status=idle]"  # before, keys may be lost
            opened.locator(ready).wait_for(state="attached", timeout=120_000)
            opened.keyboard.press("Shift+Enter")
        opened.locator(".workbench[data-revision]").wait_for(timeout=180_000)
        yield opened
    finally:
        if SCREENSHOTS:
            opened.screenshot(path=Path(SCREENSHOTS) / f"{host}.png")
        opened.close()
        server.terminate()
        server.wait(20)
    assert faults == []


def is_outside(url: str) -> bool:
    address = urlparse(url)
    return address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1"


def wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def test_a_word_is_masked_with_a_click(page: Page) -> None:
    root = page.locator(".workbench")
    chip = root.locator("button.chip").nth(1)
    expect(chip).to_have_text("cat")
    chip.click()
    expect(root.locator(".card .bar")).to_have_count(5, timeout=60_000)
    expect(chip).to_have_text("[MASK]")
    # The keyboard goes on where the mouse was: marimo keeps the view in a shadow tree.
    focused = "(root) => root.getRootNode().activeElement?.textContent"
    assert root.evaluate(focused) == "[MASK]"
    chip.press("ArrowRight")
    assert root.evaluate(focused) == "sat"
    assert root.locator(".error").text_content() == ""
