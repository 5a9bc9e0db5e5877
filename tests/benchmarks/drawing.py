"""From text to drawn attention, beside BertViz: seconds and bytes: `python tests/benchmarks/drawing.py`.

BertViz's head view carries all layers and heads as HTML; `MaskedFilling` sends what is on the screen. Both
show a BERT-base with random weights. Needs `pip install -e ".[test,bench]"`; our page is also drawn in
Chromium where there is one (BertViz's needs the network to be drawn). 512 tokens take BertViz about a minute
and 8 GB of memory.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from bertviz import head_view
from common import machine, table
from ipywidgets.widgets.widget import _remove_buffers
from jupyter_client.session import json_packer

import workbench as wb
from workbench.bert import Bert, BertConfig
from workbench.text import Tokenizer
from workbench.widgets import MaskedFilling

WORDS = ["water", "river", "stone", "light", "house", "garden", "winter", "letter", "music", "bread"]
HEAD = ["tokens", "BertViz: forward s", "+ page s", "bytes", "ours: text to message s", "of it forward s"]
HEAD += ["with still picture s", "bytes of data", "bytes with code", "drawn in browser s"]


def timed(run: Callable[[], object], times: int) -> tuple[float, object]:
    """Median seconds of a few runs, and what the last one gave."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def bertviz(tokens: list[str], ids: torch.Tensor, times: int) -> tuple[float, float, int]:
    """Seconds of the forward pass with all attention, seconds of the page, bytes of the page."""
    config = transformers.BertConfig(attn_implementation="eager")
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model(ids, output_attentions=True)
    forward, output = timed(lambda: model(ids, output_attentions=True), times)
    page, html = timed(
        lambda: head_view(output.attentions, tokens, html_action="return"), 1 if len(tokens) > 200 else times
    )
    return forward, page, len(html.data.encode())


def payload(widget: MaskedFilling) -> tuple[int, int]:
    """Bytes of the first message to the browser: without and with the widget's own JavaScript and CSS."""
    state, _, buffers = _remove_buffers(widget.get_state())
    code = {name: state.pop(name) for name in ("_esm", "_css")}
    data = len(json_packer(state)) + sum(len(memoryview(buffer)) for buffer in buffers)
    return data, data + len(json_packer(code))


def drawn(widget: MaskedFilling) -> str:
    """Seconds until Chromium has run the widget's code and drawn the first frame; "-" without a browser."""
    if not shutil.which("chromium"):
        return "-"
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page_file = widget.save(Path(folder) / "view.html")
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        seconds = []
        for _ in range(5):
            page = browser.new_page()
            page.goto(page_file.as_uri())
            seconds.append(
                page.evaluate(
                    "() => new Promise(done => requestAnimationFrame(() => setTimeout(() => {"
                    " if (!document.querySelector('.workbench')) throw Error('nothing is drawn');"
                    " done(performance.now() / 1000) })))"
                )
            )
            page.close()
        browser.close()
    return f"{statistics.median(seconds):.2f}"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 128, 512])
    parser.add_argument("--times", type=int, default=5, help="runs for each figure (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine(), end="\n\n")
    config = BertConfig()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *WORDS, *(f"piece{number}" for number in range(config.vocab_size - 15))]
    bert = Bert(config, pooler=False, tokenizer=Tokenizer.from_words(pieces)).eval()
    bert.add_head("mlm", "mlm")
    bert.encoder.apply(wb.encoder.lay_out_for_cpu)  # as `load_bert` does
    rows = []
    for tokens in options.tokens:
        text = " ".join(WORDS[number % 10] for number in range(tokens - 2))
        encoding = bert.tokenizer.encode(text)
        assert len(encoding) == tokens
        inputs = encoding.tensors()

        def widget(text: str = text) -> MaskedFilling:
            widget = MaskedFilling(bert, text, masked=[(0, 5)])
            widget.get_state()
            return widget

        widget()
        ours, shown = timed(widget, options.times)
        assert not shown.error
        with_picture, _ = timed(lambda: widget()._repr_mimebundle_(), options.times)  # noqa: B023
        with wb.record_attention(bert, [11]):
            forward, _ = timed(lambda: bert(**inputs), options.times)  # noqa: B023
        data, with_code = payload(shown)
        browser = drawn(shown)
        peer = bertviz([token.text for token in encoding.tokens], inputs["input_ids"], options.times)
        seconds = [f"{value:.3f}" for value in (*peer[:2], ours, forward, with_picture)]
        rows.append(
            [tokens, *seconds[:2], f"{peer[2]:,}", *seconds[2:], f"{data:,}", f"{with_code:,}", browser]
        )
        print(table(HEAD, rows[-1:]).splitlines()[-1], file=sys.stderr)
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
