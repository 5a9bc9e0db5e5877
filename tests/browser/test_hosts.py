"""Hosts other than JupyterLab: their colours, their size of text, forced colours. What they set is set here
on a page with the widgets; they themselves are not started."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

import workbench as wb
from workbench.widgets import MaskedFilling, PatchAttention, SpanExtraction, TokenTagger

pytestmark = pytest.mark.browser
VSCODE = (
    "--vscode-editor-background: {}; --vscode-editor-foreground: {}; --vscode-editorWidget-background: {};"
)
HOSTS = {  # what the host sets, the system's theme, and whether the page is dark
    "VS Code, dark": (f"body {{ {VSCODE.format('#1e1e1e', '#d4d4d4', '#252526')} }}", "light", True),
    "VS Code, light": (f"body {{ {VSCODE.format('#ffffff', '#3b3b3b', '#f8f8f8')} }}", "dark", False),
    "Colab, dark": ("html { background: #383838; color-scheme: dark; }", "light", True),
    "marimo, dark": ("body { background: rgb(24 28 26); }", "light", True),
    "none, dark": ("", "dark", True),
    "none, light": ("", "light", False),
}
# Red, green and blue of the paper.
BACKGROUND = "(root) => getComputedStyle(root).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Four widgets as pages, without the background that a saved page has."""
    bert, vit = wb.load_bert(device="cpu"), wb.load_vit(device="cpu")
    passage = "Anna sells flowers in the old town, and her brother Paul sells fish."
    widgets = [
        MaskedFilling(bert, "The cat sat on the mat.", masked=[(4, 7)]),
        TokenTagger(bert, "They light the light.", pinned=1),
        SpanExtraction(bert, "Who sells flowers?", passage),
        PatchAttention(vit),
    ]
    folder: Path = tmp_path_factory.mktemp("hosts")
    files = {}
    for widget in widgets:
        name = type(widget).__name__
        text = widget.save(folder / f"{name}.html").read_text(encoding="utf-8")
        start, end = text.index("body {"), text.index("}", text.index("body {")) + 1
        assert "light-dark" in text[start:end]
        files[name] = text[:start] + "/* host */" + text[end:]
    return files


@pytest.fixture
def shown(browser: Browser, pages: dict[str, str]) -> Iterator:
    """Shows a widget with a host's style; at the end nothing may have gone wrong."""
    opened: list[Page] = []
    faults: list[str] = []

    def show(name: str, style: str, **options: object) -> Page:
        page = browser.new_page(**options)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.set_content(pages[name].replace("/* host */", style))
        page.locator(".workbench[data-revision]").wait_for()
        page.wait_for_timeout(400)
        opened.append(page)
        return page

    yield show
    for page in opened:
        page.close()
    assert not faults, faults


@pytest.mark.parametrize("host", HOSTS)
def test_colours_follow_the_host(shown, pages: dict[str, str], host: str) -> None:
    style, system, dark = HOSTS[host]
    for name in pages:
        page = shown(name, style, color_scheme=system)
        root = page.locator(".workbench")
        assert ("dark" in root.get_attribute("class").split()) == dark
        assert (sum(root.evaluate(BACKGROUND)) < 384) == dark
        found = Axe().run(page, context=".workbench", options={"runOnly": ["color-contrast"]})
        assert [fault["nodes"][0]["html"] for fault in found.response["violations"]] == []


def test_a_change_of_the_theme_is_noticed(shown) -> None:
    page = shown("MaskedFilling", "body.night { background: #111; }", color_scheme="light")
    root = page.locator(".workbench")
    for night in (True, False):
        page.evaluate("(night) => document.body.classList.toggle('night', night)", night)
        page.wait_for_timeout(500)
        assert ("dark" in root.get_attribute("class")) == night


def test_text_is_as_large_as_the_hosts(shown) -> None:
    sizes = """() => Object.fromEntries(["p.note", "button.plain", ".chip", ".status", "h4"].map(
        (name) => [name, parseFloat(getComputedStyle(document.querySelector(name)).fontSize)]))"""
    usual = shown("MaskedFilling", "").evaluate(sizes)
    large = shown("MaskedFilling", "body { --jp-content-font-size1: 21px; }").evaluate(sizes)
    assert large == pytest.approx({name: 1.5 * size for name, size in usual.items()}, abs=0.1)
    code = shown("MaskedFilling", "body { --vscode-font-size: 28px; }").evaluate(sizes)
    assert code == pytest.approx({name: 2 * size for name, size in usual.items()}, abs=0.1)


@pytest.mark.parametrize("system", ["light", "dark"])
def test_forced_colours_keep_bars_and_shades(shown, system: str) -> None:
    page = shown("MaskedFilling", "", forced_colors="active", color_scheme=system)
    paint = "(node) => getComputedStyle(node).backgroundColor"
    bar = page.locator(".bar").first
    assert bar.locator(".fill").evaluate(paint) != bar.locator(".track").evaluate(paint)
    pressed = page.locator("button[aria-pressed=true]").first
    plain = page.locator("button.plain[aria-pressed=false], button.plain:not([aria-pressed])").first
    assert pressed.evaluate(paint) != plain.evaluate(paint)
    page = shown("TokenTagger", "", forced_colors="active", color_scheme=system)
    papers = set(page.locator(".chip").evaluate_all(f"(nodes) => nodes.map({paint})"))
    assert len(papers) > 2, "classes of words have colours of their own"


def test_what_is_pressed_is_large_enough(shown, pages: dict[str, str]) -> None:
    """24 px are what WCAG 2.2 asks for (criterion 2.5.8)."""
    small = """() => [...document.querySelectorAll("button, select, input:not([type=file]), summary")]
        .filter((node) => node.checkVisibility())
        .map((node) => [node.outerHTML.slice(0, 90), node.closest("label") ?? node])
        .filter(([, node]) => Math.min(node.offsetWidth, node.offsetHeight) < 24)
        .map(([html, node]) => `${html} ${node.offsetWidth} x ${node.offsetHeight}`)"""
    found = {name: shown(name, "").evaluate(small) for name in pages}
    assert found == {name: [] for name in pages}
