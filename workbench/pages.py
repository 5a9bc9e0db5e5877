"""Notebooks as static pages: each is run once, and its widgets answer what was played at the end of that."""

import hashlib
import html
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import nbformat
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from pygments.formatters import HtmlFormatter
from tqdm import tqdm

from workbench import __version__
from workbench.checkpoint import shipped_checkpoints
from workbench.files import write_whole
from workbench.widgets.rehearsal import page, picture

VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
FINISH = """from workbench.widgets.rehearsal import BACKGROUND
display({"application/json": BACKGROUND.finish()}, raw=True)"""
STYLE = """<style>
body { font: 16px/1.5 system-ui, sans-serif; color: light-dark(#1f2328, #e6e8eb); }
.page { max-width: 960px; margin: auto; }
.page a { color: light-dark(#0957c3, #79b0ff); }
.page pre { overflow-x: auto; margin: 4px 0; padding: 8px 12px; font-size: 14px; line-height: 1.35; }
.input pre { background: light-dark(#f4f5f7, #1b1f24); border-radius: 4px; }
.page :is(img, svg) { max-width: 100%; }
.output_png img { background: #fff; }
.page svg:is(.inline, .block) { fill: currentColor; }
.page svg.block { display: block; margin: auto; }
.page li.card { list-style: none; border: 1px solid light-dark(#d8dce1, #3a4048); border-radius: 6px; }
.page ul.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 16px; }
.page ul.cards { padding: 0; }
.card a { display: block; padding: 12px; text-decoration: none; }
.card img { display: block; width: 100%; height: 180px; margin-top: 8px; object-fit: contain; }
.card img { background: #fff; }
</style>
"""
CODE = f"""<style>{HtmlFormatter(style="default").get_style_defs(".highlight")}
@media (prefers-color-scheme: dark) {{ {HtmlFormatter(style="github-dark").get_style_defs(".highlight")} }}
.page .highlight {{ background: none; }}</style>
"""


class _Markdown(IPythonRenderer):
    """Markdown as nbconvert renders it, but with formulas as drawings, which need no script."""

    def inline_math(self, body: str) -> str:
        return formula(body)

    def block_math(self, body: str) -> str:
        return formula(body, "block")


def formula(latex: str, style: str = "inline") -> str:
    """A formula as SVG, named as it was typed; one that matplotlib cannot draw is shown as it was typed."""
    letters, name = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}, html.escape(" ".join(latex.split()))
    try:
        path = TextPath((0, 0), f"${html.unescape(name)}$", 1.15, prop=FontProperties(math_fontfamily="cm"))
    except ValueError:
        return f"<code>{name}</code>"
    line, box = "", path.get_extents()  # in em, upwards from the line of the text
    for points, kind in path.iter_segments():
        line += letters[kind] + " ".join(f"{at:.3f}" for at in points if kind != path.CLOSEPOLY)
    return (
        f'<svg class="{style}" role="img" aria-label="{name}" '
        f'viewBox="{box.x0:.3f} {-box.y1:.3f} {box.width:.3f} {box.height:.3f}" '
        f'style="height: {box.height:.3f}em; vertical-align: {box.y0:.3f}em">'
        f'<path transform="scale(1 -1)" d="{line}"/></svg>'
    )


def write_pages(folder: Path, notebooks: Sequence[Path]) -> None:
    """Runs notebooks and writes a page of each, and an index. A page that is newer than its notebook, and of
    the same checkpoints, is kept; so are those that are done when Ctrl-C stops the rest.

    `ValueError` for notebooks that cannot be read, and, once all others are done, for those that fail.
    """
    if folder.suffix == ".ipynb":
        raise ValueError(
            f"The first name is that of the folder to write to: workbench pages FOLDER {folder}."
        )
    if len({path.stem for path in notebooks}) < len(notebooks):
        raise ValueError("Two of these notebooks have the same name, and so would their pages.")
    pages = {path: folder / f"{path.stem}.html" for path in notebooks}
    mark = f'<meta name="workbench" content="{__version__} {_checkpoints_digest()}">'
    read = {path: _read_notebook(path) for path in notebooks}
    todo = {path: notebook for path, notebook in read.items() if not _is_done(pages[path], path, mark)}
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    total = sum(len(notebook.cells) + 1 for notebook in todo.values())
    with tqdm(total=total, unit="cell", disable=not todo) as progress:
        try:
            for path, notebook in todo.items():
                progress.set_description(path.stem)
                try:
                    for _ in _run(notebook, path.parent):
                        progress.update()
                except (CellExecutionError, DeadKernelError) as error:
                    failed.append(f"{path.name} ({getattr(error, 'evalue', error)})")
                    continue
                # Those beside it, too, which are not beside its page: theirs may be made later.
                beside = [] if folder.samefile(path.parent) else path.parent.glob("*.ipynb")
                linked = {other.stem for other in (*notebooks, *beside)}
                write_whole(pages[path], to_page(notebook, mark, linked).encode())
        finally:
            write_whole(folder / "index.html", index(folder).encode())
    if failed:
        raise ValueError(f"There is no page of {'; '.join(failed)}.")


def _read_notebook(path: Path) -> NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except OSError:
        raise
    except Exception as error:  # json and nbformat have many of their own
        raise ValueError(f"{path} is no notebook that can be read.") from error


def _checkpoints_digest() -> str:
    """Of the checkpoints that come along."""
    files = (file for folder in shipped_checkpoints().values() for file in sorted(folder.rglob("*")))
    hashes = (hashlib.sha256(file.read_bytes()).digest() for file in files if file.is_file())
    return hashlib.sha256(b"".join(hashes)).hexdigest()[:16]


def _is_done(page: Path, notebook: Path, mark: str) -> bool:
    newer = page.is_file() and page.stat().st_mtime > notebook.stat().st_mtime
    return newer and mark in page.read_text(encoding="utf-8")


def _run(notebook: NotebookNode, folder: Path) -> Iterator[None]:
    """Runs it in that folder, cell by cell; at the end it holds its widgets' state, and their stills."""
    notebook.cells.append(new_code_cell(FINISH))
    options = {"kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
    client = NotebookClient(notebook, resources={"metadata": {"path": folder}}, **options)
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
            yield
    client.set_widgets_metadata()
    notebook.metadata.update(notebook.cells.pop().outputs[-1].data["application/json"])


def to_page(notebook: NotebookNode, mark: str = "", names: Collection[str] = ()) -> str:
    """A page of a notebook that was run by `_run`; links to notebooks of these names lead to their pages."""
    stills, states = notebook.metadata.stills, {}
    models = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})  # none without a widget
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        name = output.get("data", {}).pop(VIEW, {}).get("model_id")
        if name in stills:
            model = models[name]
            buffers = {buffer["path"][0]: {"bytes": buffer["data"]} for buffer in model.get("buffers", [])}
            states[name] = model["state"] | buffers
            output.data = {"text/html": f'<div data-widget="{name}">{picture(*stills[name])}</div>'}
    options = {"exclude_input_prompt": True, "exclude_output_prompt": True}
    exporter = HTMLExporter(template_name="basic", **options)
    exporter.register_filter(
        "markdown2html", MarkdownWithMath(_Markdown(escape=False, exclude_anchor_links=True))
    )
    body, _ = exporter.from_notebook_node(notebook)

    def lead(link: re.Match) -> str:
        return f'href="{link[1]}.html' if unquote(html.unescape(link[1])) in names else link[0]

    body = re.sub(r'href="(?:\./)?([^":/]+)\.ipynb', lead, body)
    heading = re.search(r"<h1.*?</h1>|$", body, re.DOTALL)[0]
    title = html.unescape(re.sub(r"<[^>]+>", "", heading)).strip() or "Notebook"
    body = f'<main class="page"><p><a href="index.html">All pages</a></p>{body}</main>'
    return page(title, body, states, mark + CODE + STYLE, notebook.metadata["values"])


def index(folder: Path) -> str:
    """A page that leads to all pages in that folder, each with its first picture."""
    cards = []
    for file in sorted(folder.glob("*.html")):
        text = file.read_text(encoding="utf-8")
        if '<meta name="workbench"' in text:
            title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)[1]
            seen = re.search(r'<img [^>]*"data:image/png[^>]*>|$', text)[0]
            cards.append(f'<li class="card"><a href="{quote(file.name)}">{title}{seen}</a></li>')
    title = "BERT & ViT Workbench"
    about = "Click words, patches and heads: what is shown was computed beforehand, and needs no network."
    body = f'<h1>{html.escape(title)}</h1><p>{about}</p><ul class="cards">{"".join(cards)}</ul>'
    return page(title, f'<main class="page">{body}</main>', {}, STYLE)
