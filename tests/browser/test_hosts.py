"""Hosts other than JupyterLab: their colours, their size of text, forced colours, narrow pages. What they set
is set here on a page with all widgets; they themselves are started in test_other_hosts.py."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

import workbench as wb
from workbench.widgets import (
    AttentionExplorer,
    MaskedFilling,
    NextSentence,
    SentenceClassifier,
    SentencePair,
    SpanExtraction,
    TokenTagger,
)
from workbench.widgets.base import guarded

from .every import SETTLED, one_page

pytestmark = pytest.mark.browser
VSCODE = (
    "--vscode-editor-background: {}; --vscode-editor-foreground: {}; --vscode-editorWidget-background: {};"
)
HOSTS = {  # what the host sets, the system's theme, and whether the page is dark
    "VS Code, dark": (f"body {{ {VSCODE.format('#1e1e1e', '#d4d4d4', '#252526')} }}", "light", True),
    "VS Code, light": (f"body {{ {VSCODE.format('#ffffff', '#3b3b3b', '#f8f8f8')} }}", "dark", False),
    "Colab, dark": ("html { background: #383838; color-scheme: dark; }", "light", True),
    "marimo, dark": ("body { background: rgb(24 28 26); }", "light", True),
    "marimo, light": ("body { background: oklch(1 0 0); }", "dark", False),
    "none, dark": ("", "dark", True),
    "none, light": ("", "light", False),
}
# Red, green and blue of the paper.
BACKGROUND = "(root) => getComputedStyle(root).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)"
# What colours come to, painted over each other. Axe, which looks at the lessons' widgets, leaves out those
# that are mixed or half transparent.
PAINT = """
const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
function over(papers) {
    for (const [colour, opacity = 1] of [["#fff"], ...papers]) {
        Object.assign(pen, { globalAlpha: opacity, fillStyle: colour }).fillRect(0, 0, 1, 1);
    }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}
function luminance(colour) {
    const [red, green, blue] = colour.map((band) =>
        band / 255 <= 0.04045 ? band / 255 / 12.92 : ((band / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
function contrast(one, other) { // WCAG 2, 1.4.3
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
}
const around = (node) => node ? [...around(node.parentElement), node] : [];
const papers = (node) => around(node).map((one) => [getComputedStyle(one).backgroundColor]);
const shown = (node) =>
    node.checkVisibility({ visibilityProperty: true }) && node.clientWidth * node.clientHeight;
const named = (node) => `${node.closest(".workbench").classList[1]}: ${node.outerHTML.slice(0, 90)}`;
"""
# Texts of less than 4.5; what is disabled or for screen readers only does not count.
PALE = f"""() => {{ {PAINT}
    for (const node of document.querySelectorAll("details")) node.open = true;
    for (const node of document.querySelectorAll(".error")) node.textContent ||= "It went wrong.";
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    let texts = 0;
    while (walker.nextNode()) {{
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || node.closest("script, style, :disabled, .unseen")) continue;
        if (!node.checkVisibility({{ visibilityProperty: true }})) continue;
        texts += 1;
        const style = getComputedStyle(node);
        const opacity = around(node).reduce((all, one) => all * getComputedStyle(one).opacity, 1);
        const ink = [node.closest("svg") ? style.fill : style.color, opacity];
        const ratio = contrast(over(papers(node)), over([...papers(node), ink]));
        if (ratio < 4.5) found.push(`${{ratio.toFixed(2)}} ${{named(node)}}`);
    }}
    return [texts, found];
}}"""
# Bars, markers, swatches, pressed buttons that look like the paper under them; canvases of one colour.
LOST = f"""() => {{ {PAINT}
    const all = (kind) => [...document.querySelectorAll(kind)].filter(shown);
    const bars = ".fill, .before, .swatch, .stack i, .token i[style], .piece i";
    const marks = all(`${{bars}}, [aria-pressed=true]`);
    const edge = ({{ borderTopWidth: width, borderTopColor: colour }}) => width !== "0px" && colour;
    const seen = (node) => ["transparent", edge(getComputedStyle(node)) || "transparent"]
        .map((colour) => over([...papers(node), [colour]]))
        .some((colour) => contrast(colour, over(papers(node.parentElement))) > 1.4);
    const plain = (canvas) => {{
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(new Uint32Array(data.buffer)).size < 2;
    }};
    const lost = [...marks.filter((node) => !seen(node)), ...all("canvas").filter(plain)];
    return [marks.length, lost.map(named)];
}}"""
HEBREW, MORE_HEBREW = "הילד הלך לבית הספר.", "הוא קרא שם ספר."
ARABIC = "ذهب الولد إلى المدرسة."


@pytest.fixture
def shown(browser: Browser, pages: dict[str, str]) -> Iterator:
    """Shows a widget, or all, with a host's style; at the end nothing may have gone wrong."""
    opened: list[Page] = []
    faults: list[str] = []

    def show(name: str, style: str = "", own: dict[str, str] | None = None, **options: object) -> Page:
        page = browser.new_page(**options)
        page.on("pageerror", lambda error: faults.append(str(error)))
        own = own or ({name: pages[name]} if name else pages)
        page.set_content(one_page(own, style))
        page.wait_for_function(
            "(count) => document.querySelectorAll('.workbench[data-revision]').length === count", arg=len(own)
        )
        page.evaluate(SETTLED)
        opened.append(page)
        return page

    yield show
    for page in opened:
        page.close()
    assert not faults, faults


@pytest.mark.parametrize("host", HOSTS)
def test_colours_follow_the_host(shown, pages: dict[str, str], host: str) -> None:
    style, system, dark = HOSTS[host]
    page = shown("", style, color_scheme=system)
    for name in pages:
        root = page.locator(f"#{name} .workbench")
        assert ("dark" in root.get_attribute("class").split()) == dark
        assert (sum(root.evaluate(BACKGROUND)) < 384) == dark
    texts, pale = page.evaluate(PALE)
    assert texts > 500 and pale == []


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
    page = shown("", forced_colors="active", color_scheme=system)
    paint = "(node) => getComputedStyle(node).backgroundColor"
    for name in ("MaskedFilling", "PatchHiding", "SpanExtraction", "AttentionExplorer"):
        bar = page.locator(f"#{name} .bar").first
        assert bar.locator(".fill").evaluate(paint) != bar.locator(".track").evaluate(paint)
    masked = page.locator("#MaskedFilling")
    pressed = masked.locator("button[aria-pressed=true]").first
    plain = masked.locator("button.plain[aria-pressed=false], button.plain:not([aria-pressed])").first
    assert pressed.evaluate(paint) != plain.evaluate(paint)
    for name, least in {
        "TokenTagger": 2,
        "MaskedFilling": 2,
        "SentenceClassifier": 4,
        "SentencePair": 3,
    }.items():
        papers = set(page.locator(f"#{name} .chip").evaluate_all(f"(nodes) => nodes.map({paint})"))
        assert len(papers) > least, f"classes and shares of {name} have colours of their own"
    marks, lost = page.evaluate(LOST)
    assert marks > 140 and lost == []
    assert page.evaluate(PALE)[1] == []


def test_what_is_pressed_is_large_enough(shown) -> None:
    """24 px are what WCAG 2.2 asks for (criterion 2.5.8), but for targets in a sentence, as a passage is."""
    kinds = "button:not(.passage *), select, input:not([type=file]), summary"
    small = f"""() => [...document.querySelectorAll("{kinds}")]
        .filter((node) => node.checkVisibility())
        .map((node) => [node.outerHTML.slice(0, 90), node.closest("label") ?? node])
        .filter(([, node]) => Math.min(node.offsetWidth, node.offsetHeight) < 24)
        .map(([html, node]) => `${{html}} ${{node.offsetWidth}} x ${{node.offsetHeight}}`)"""
    assert shown("").evaluate(small) == []


@pytest.mark.parametrize(
    ("width", "size"), [(640, 14), (400, 14), (320, 14), (640, 28)], ids=["200 %", "400", "320", "large text"]
)
def test_nothing_is_cut_off_on_a_narrow_page(shown, width: int, size: int) -> None:
    """1280 px at 200 % are 640; 320 px are what WCAG 2 asks for (criterion 1.4.10)."""
    style = f"body {{ margin: 0; --jp-content-font-size1: {size}px; }}"
    page = shown("", style, viewport={"width": width, "height": 900})
    # What sticks out of the box around it, unless that box can be scrolled.
    found = page.evaluate("""() => {
        const all = [...document.querySelectorAll(".workbench *")];
        const rolling = all.filter((node) => getComputedStyle(node).overflowX !== "visible");
        return all.filter((node) => {
            const box = node.closest(".part, .card, .workbench, .passage, .chips");
            return !rolling.some((one) => one.contains(node)) && node.checkVisibility() &&
                node.getBoundingClientRect().right > box.getBoundingClientRect().right + 1;
        }).map((node) => `${node.closest(".workbench").classList[1]}: ${node.outerHTML.slice(0, 90)}`);
    }""")
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [1080, 640])
def test_the_strip_is_lined_up(shown, width: int) -> None:
    """One line in a wide cell; in a narrow one the head stands below front door and encoder, in columns."""
    page = shown("", "body { margin: 0 }", viewport={"width": width, "height": 900})
    lines = page.locator(".stages").evaluate_all("""
        (all) => all.map((line) => [...line.children].map((stop) => {
        const { left, right, top } = stop.getBoundingClientRect();
        const cut = [...stop.firstChild.children].some((one) => one.scrollWidth > one.clientWidth + 1);
        return [left, top, cut || right > line.parentElement.getBoundingClientRect().right + 1];
    }))""")
    assert len(lines) > 9
    for stops in lines:
        lefts, tops, cut = zip(*stops, strict=True)
        assert not any(cut)
        above, below = (tops, ()) if width == 1080 else (tops[:3], tops[3:])
        assert len({*above}) == 1 and len({*below}) <= 1
        assert all(top > above[0] for top in below)
        if below:
            assert lefts[3:6] == pytest.approx(lefts[:3], abs=1)


def test_arabic_and_hebrew_run_from_right_to_left(shown) -> None:
    """Words, pieces, and what stands below them; numbers in between stay as they are."""
    bert = wb.load_bert(device="cpu")
    span = SpanExtraction(bert, MORE_HEBREW, f"{HEBREW} {ARABIC}")
    widgets = [
        MaskedFilling(bert, ARABIC, masked=[(0, 3)]),  # a masked word and [CLS] are no English
        NextSentence(bert, ARABIC, HEBREW),
        SentenceClassifier(bert, HEBREW),
        TokenTagger(bert, HEBREW),
        SentencePair(bert, HEBREW, MORE_HEBREW, lines=True),
        span,
        AttentionExplorer(bert, ARABIC, HEBREW),
    ]
    for widget in widgets:
        guarded(type(widget)._complete)(widget)
    page = shown("", own={type(widget).__name__: widget._page() for widget in widgets})
    assert page.locator("textarea").evaluate_all(
        "(all) => all.every((one) => !one.value || one.matches(':dir(rtl)'))"
    )
    words = page.locator(".chips, .strip:has(.token), .passage > span")
    rows = words.evaluate_all("""(rows) => rows.map((row) => {
        const boxes = [...row.children].map((one) => one.getBoundingClientRect());
        const pairs = boxes.slice(1).map((box, at) => [boxes[at], box]);
        return pairs.filter(([one, two]) => two.top === one.top)
            .map(([one, two]) => two.right <= one.left + 1);
    }).filter((row) => row.length)""")
    assert len(rows) == 8  # two of SentenceClassifier, two of SentencePair
    assert all(all(row) for row in rows), rows
    small = page.locator(".token small, .chip small:not(.pieces)")
    assert small.evaluate_all(
        "(all) => all.every((one) => getComputedStyle(one).unicodeBidi === 'plaintext')"
    )
    # The caption of the lines: word, arrow, word and share from left to right, as the sentence around them.
    caption = page.locator("#SentencePair .note", has_text="The strongest").text_content()
    assert caption.count("\u2068") == caption.count("\u2069") == 6
    right = page.locator("#SpanExtraction .bar .word").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).unicodeBidi)"
    )
    assert set(right) == {"plaintext"}
