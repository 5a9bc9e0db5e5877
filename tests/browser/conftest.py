"""A real JupyterLab, a real Chromium and a real kernel; see `lab` and `Lesson`."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from PIL import Image
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

from .every import every_widget

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PORT = str(8950 + 50 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))
# Runs the cells from the first one on until there are so many widgets of ours.
RUN_TO = """async (count) => {
    const { content } = window.jupyterapp.shell.currentWidget;
    let found = 0;
    for (let index = 0; found < count; index++) {
        if (index === content.widgets.length) throw new Error(`The lesson has only ${found} widgets.`);
        content.activeCellIndex = index;
        await window.jupyterapp.commands.execute("notebook:run-cell");
        const outputs = content.activeCell.model.outputs?.toJSON() ?? [];
        const shown = outputs.filter(({ data }) => data?.["application/vnd.jupyter.widget-view+json"]);
        found += shown.filter(({ data }) => data["image/png"]).length;
    }
}"""
# Puts a lesson back to what its file says.
BACK = """async () => {
    document.activeElement.blur();
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error("JupyterLab is stuck.")), 10_000));
    await Promise.race([window.jupyterapp.shell.currentWidget.context.revert(), late]);
}"""
# Opens another lesson in the same JupyterLab, with the kernel that is there: it has imported PyTorch.
OTHER = """async (path) => {
    const { commands, shell } = window.jupyterapp;
    const before = shell.currentWidget;
    const { kernel } = before.sessionContext.session;
    const code = "import ipywidgets\\nipywidgets.Widget.close_all()\\n%reset -f";
    await kernel.requestExecute({ code, store_history: false }).done;
    await commands.execute("apputils:change-theme", { theme: "JupyterLab Light" });
    await commands.execute("docmanager:open", { path, factory: "Notebook", kernel: { id: kernel.id } });
    before.dispose();  // last: where nothing is open JupyterLab opens its launcher
}"""
# How a lesson looks does not depend on how long it trains, and on how much; tests/test_notebooks.py trains as
# it says.
SHORTER = """() => {
    for (const cell of window.jupyterapp.shell.currentWidget.content.model.cells) {
        const { sharedModel } = cell;
        const short = sharedModel.getSource().replace(/steps=\\d+/g, "steps=1");
        const little = short.replace(/(read_labelled[(]"\\w+"[)]|draw_shapes[(]\\d+[)])/g, "$1[::12]");
        if (cell.type === "code") sharedModel.setSource(little);
    }
}"""
SCREENSHOTS = Path(__file__).parents[2] / "data" / "screenshots"
WRITE_SCREENSHOTS = os.environ.get("WRITE_SCREENSHOTS") == "1"


@pytest.hookimpl(tryfirst=True)  # before pytest looks for "slow"
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each view is tried dark and narrow in every run, and one saved page; the rest is slow."""
    for item in items:
        look = item.callspec.params if hasattr(item, "callspec") else {}
        other_look = "theme" in look and (look["theme"], look["width"]) != ("Dark", 800)
        other_page = item.name.startswith("test_saved_page") and "masked_filling" not in item.nodeid
        if other_look or other_page:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without one tests are skipped, unless REQUIRE_BROWSER=1."""
    if CHROMIUM is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but there is no Chromium on this machine.")
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


# For what is drawn on no canvas, and so the same on a sharp screen.
USUAL_SCREEN = pytest.mark.parametrize("page", [1], ids=["1x"], indirect=True)


@pytest.fixture(scope="module", params=[1, 2], ids=["1x", "2x"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page so long that any widget is in sight, on a usual screen and on a sharp one; see `drawn.View`."""
    size = {"width": 1000, "height": 3000}
    page = browser.new_page(viewport=size, device_scale_factor=request.param)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    page.close()
    assert not faults, faults


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """A saved page of each widget; see `every_widget`."""
    return {name: widget._page() for name, widget in every_widget().items()}


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address, with token, of a JupyterLab started by the `workbench` command, on its copy of the lessons."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "config").mkdir()
    (folder / "settings" / "@jupyterlab" / "docmanager-extension").mkdir(parents=True)
    saving = folder / "settings" / "@jupyterlab" / "docmanager-extension" / "plugin.jupyterlab-settings"
    saving.write_text('{"autosave": false}')  # a lesson opened again is as it was
    settings = {"LabApp": {"expose_app_in_browser": True}, "ServerApp": {"log_level": "WARN"}}
    (folder / "config" / "jupyter_lab_config.json").write_text(json.dumps(settings))
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    log = (folder / "log.txt").open("w+")
    command = [sys.executable, "-m", "workbench", "lab", "--no-browser", "--port", PORT]
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180  # on a busy machine
        while not (files := list(folder.glob("runtime/jpserver-*.json"))):
            assert server.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.1)
        running = json.loads(files[0].read_text())
        yield f"{running['url']}doc/tree/{{name}}?reset&token={running['token']}"
    finally:
        server.terminate()
        server.wait(20)


class Lesson:
    """One notebook open in the browser; fails on console errors and on requests that leave the machine."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text} {message.location.get('url', '')}")

    def _on_request(self, request: Any) -> None:
        address = urlparse(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in (
            "127.0.0.1",
            "localhost",
        ):
            self.faults.append(f"left the machine: {request.url}")

    def open(self, url: str) -> None:
        """Opens the notebook and waits until its kernel is ready."""
        self.page.goto(url)
        self.page.wait_for_function("window.jupyterapp?.restored.then(() => true)", timeout=60_000)
        self.wait_for_kernel()

    def open_other(self, name: str) -> None:
        """Another notebook in the page and with the kernel that are there already."""
        self.page.evaluate(OTHER, name)
        self.wait_for_kernel(20)  # else it is opened anew

    def reopen(self, width: int, height: int) -> None:
        """The notebook as its file has it, in the page and with the kernel that are there already."""
        self.faults.clear()
        self.page.mouse.move(0, 0)
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate(BACK)
        self.wait_for_kernel(20)

    def wait_for_kernel(self, seconds: float = 120) -> None:
        """Waits until the kernel of the notebook has nothing to do."""
        self.page.wait_for_function(
            "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=1000 * seconds,
        )

    def command(self, name: str, **arguments: Any) -> None:
        """Runs a command of JupyterLab, such as "notebook:run-all-cells"."""
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments]
        )

    def run_all(self, short: bool = False) -> None:
        """Runs all cells, if wanted with trainings of one step; no output may be an error."""
        if short:
            self.page.evaluate(SHORTER)
        self.command("notebook:run-all-cells")
        self._after_cells(1)
        self._save_nothing()

    def run_to(self, index: int = 0, saves: bool = False) -> "Widget":
        """Runs cells until the widget of that number is on the page, and returns it. Only who `saves` the
        notebook has answers given beforehand."""
        self.page.evaluate(RUN_TO, index + 1)
        self._after_cells(index + 1)
        if not saves:
            self._save_nothing()
        return self.widget(index)

    def _save_nothing(self) -> None:
        self.python("from workbench.widgets.rehearsal import BACKGROUND; BACKGROUND.shown.clear()")

    def _after_cells(self, widgets: int) -> None:
        self.wait_for_kernel()
        assert not self.page.locator(".jp-RenderedText[data-mime-type*='stderr'] .ansi-red-fg").count()
        drawn = self.page.locator(".workbench[data-revision]")
        self.wait(lambda: drawn.count() >= widgets, f"{widgets} widgets on the page")

    def python(self, code: str) -> str:
        """Runs code in the notebook's kernel and returns what it prints."""
        return self.page.evaluate(
            """async (code) => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({ code, store_history: false });
                let printed = "";
                future.onIOPub = (message) => {
                    if (message.header.msg_type === "stream") printed += message.content.text;
                    if (message.header.msg_type === "error") printed += message.content.evalue;
                };
                await future.done;
                return printed.trim();
            }""",
            code,
        )

    def widget(self, index: int = 0) -> "Widget":
        """The widget of that number on the page, scrolled into view."""
        root = self.page.locator(".workbench").nth(index)
        root.scroll_into_view_if_needed()
        return Widget(self, root)

    def dress(self, theme: str) -> None:
        """JupyterLab "Light" or "Dark"."""
        self.command("apputils:change-theme", theme=f"JupyterLab {theme}")
        light = str(theme == "Light").lower()
        self.wait(lambda: self.page.evaluate("document.body.dataset.jpThemeLight") == light, theme)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
        """Polls until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (
                f"Waited {seconds} s in vain for {what}; faults: {self.faults}"
            )
            self.page.wait_for_timeout(20)


def cells_of(page: Page) -> int:
    """How many cells the notebook has; JupyterLab draws those in sight only."""
    return page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.length")


class Widget:
    """A widget on the page, as a user sees it."""

    def __init__(self, lesson: Lesson, root: Locator) -> None:
        self.lesson, self.root, self.page = lesson, root, lesson.page

    def revision(self) -> int:
        """Which answer of Python's is drawn; see `after`."""
        return int(self.root.get_attribute("data-revision"))

    def after(self, action: Callable[[], Any]) -> None:
        """Does something, and waits until Python's answer to it is drawn."""
        before = self.revision()
        action()
        self.lesson.wait(lambda: self.revision() > before, "an answer to be drawn")

    def chip(self, text: str) -> Locator:
        """The word in the sentence."""
        return self.root.locator("button.chip", has_text=re.compile(f"^{re.escape(text)}$")).first

    def guesses(self, card: int = 0) -> list[str]:
        """The candidates of one mask, best first."""
        return self.root.locator(".card").nth(card).locator(".bar .word").all_text_contents()

    def picture(self, name: str) -> None:
        """With WRITE_SCREENSHOTS=1: the widget, if the window is wide, as README shows it."""
        if not WRITE_SCREENSHOTS or self.page.viewport_size["width"] < 1280:
            return
        self.page.set_viewport_size({"width": 1280, "height": 1900})  # all of it is on the screen
        self.root.evaluate("widget => widget.scrollIntoView({ block: 'center' })")  # clear of the toolbar
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(500)
        light = self.page.evaluate("document.body.dataset.jpThemeLight") == "true"
        shot = Image.open(io.BytesIO(self.root.screenshot()))
        shot.save(SCREENSHOTS / f"{name}_{'light' if light else 'dark'}.webp", quality=90)

    def button(self, name: str) -> Locator:
        """A button by what is written on it."""
        return self.root.get_by_role("button", name=name, exact=True)


@pytest.fixture(scope="session")
def on_screen(browser: Browser) -> Iterator[dict[str, Lesson]]:
    """The lesson opened last, by name: JupyterLab and a kernel take seconds to start: both serve again."""
    lessons: dict[str, Lesson] = {}
    yield lessons
    for lesson in lessons.values():
        lesson.page.context.close()


@pytest.fixture
def lesson(browser: Browser, lab: str, on_screen: dict[str, Lesson]) -> Iterator[Callable[..., Lesson]]:
    """Opens a notebook by name; at the end nothing may have gone wrong in the browser."""

    def open_lesson(name: str, width: int = 1280, height: int = 900) -> Lesson:
        with suppress(Error):  # what cannot be put back, as after a lost kernel, is opened anew
            for other in [other for other in on_screen if other != name]:
                on_screen[other].open_other(name)
                on_screen[name] = on_screen.pop(other)
            if name in on_screen:
                on_screen[name].reopen(width, height)
                return on_screen[name]
        close_all()
        context = browser.new_context(viewport={"width": width, "height": height})
        on_screen[name] = Lesson(context.new_page())
        on_screen[name].open(lab.format(name=name))
        return on_screen[name]

    def close_all() -> None:
        for name in list(on_screen):
            on_screen.pop(name).page.context.close()

    yield open_lesson
    faults = [fault for lesson in on_screen.values() for fault in lesson.faults]
    if faults:
        close_all()
    assert not faults, faults
