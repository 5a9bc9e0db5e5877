"""All widgets on one page: none changes another's look. And the modules that a widget is joined from."""

from collections.abc import Sequence

import pytest
from playwright.sync_api import Page

from workbench.widgets import base

from .every import SETTLED, one_page

pytestmark = pytest.mark.browser
# Of every element: what it is, where it lies in its widget, how large its text is, and what it says.
LOOK = """root => {
    const corner = root.getBoundingClientRect();
    return [root, ...root.querySelectorAll("*")].map((part) => {
        const area = part.getBoundingClientRect();
        const shown = area.width || area.height;
        const place = shown ? [area.left - corner.left, area.top - corner.top, area.width, area.height] : [];
        const { fontSize, color, backgroundColor } = getComputedStyle(part);
        const texts = [...part.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
        return [
            part.tagName, part.className.baseVal ?? part.className, place.map(Math.round).join(" "),
            fontSize, color, backgroundColor, ...texts.map((node) => node.data),
        ].join(" ; ");
    });
}"""


def looks(page: Page, names: Sequence[str], pages: dict[str, str]) -> dict[str, list[str]]:
    """How each of these widgets looks, all on one page in this order."""
    content = one_page({name: pages[name] for name in names}, "body > div { width: 1020px; }")
    page.set_content(content)
    page.wait_for_function(
        "count => document.querySelectorAll('.workbench[data-revision]').length === count", arg=len(names)
    )
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    page.evaluate(SETTLED)
    return {name: page.locator(f"#{name} > .workbench").evaluate(LOOK) for name in names}


def test_no_widget_changes_another(browser, pages):
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    alone = {}
    for name in pages:
        alone |= looks(page, [name], pages)
    for names in (list(pages), list(pages)[::-1]):
        together = looks(page, names, pages)
        for name in names:
            assert together[name] == alone[name], f"{name} in {names}"
    page.close()


def test_modules_keep_to_themselves(browser, tmp_path, monkeypatch):
    """What a module does not export is its own, and what a module does not import it has not."""
    monkeypatch.setattr(base, "FOLDER", tmp_path)
    (tmp_path / "one.js").write_text("const own = () => 1;\nexport const one = () => own();\n")
    (tmp_path / "two.js").write_text("const own = () => 2;\nexport const two = () => own();\n")
    imports = 'import { one } from "./one.js";\nimport { two } from "./two.js";\n'
    tail = "const own = () => 3;\nconst found = [one(), two(), own()];\nexport default { found };\n"
    (tmp_path / "view.js").write_text(imports + tail)
    (tmp_path / "careless.js").write_text(
        'import { one } from "./one.js";\nexport default { found: [one(), two()] };\n'
    )
    load = """source => import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })))
        .then((module) => module.default.found, (error) => error.message)"""
    page = browser.new_page()
    assert page.evaluate(load, base.read_front("view")[0]) == [1, 2, 3]
    assert page.evaluate(load, base.read_front("careless")[0]) == "two is not defined"
    page.close()
