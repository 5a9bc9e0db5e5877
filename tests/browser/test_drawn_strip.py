"""The strip draws what was computed, where it belongs: the numbers of every drawer are read back."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny import attends, our_bert, patch_vit, sentence_bert

import workbench as wb
from workbench.attention import ablate, fetched_vectors, record_attention
from workbench.patches import class_by_layer, embedding_steps, projection_steps
from workbench.tasks import span_windows
from workbench.text import place_cls
from workbench.widgets import (
    AttentionExplorer,
    MaskedFilling,
    NextSentence,
    PatchAttention,
    PatchHiding,
    SentenceClassifier,
    SentencePair,
    SpanExtraction,
    TokenTagger,
)

from .drawn import View, cells, near, shares

pytestmark = pytest.mark.browser
TEXT, MASKED = "the cat sat on a matx", [(4, 7)]  # [CLS] the [MASK] sat on a mat ##x [SEP]
NAMES = ["[CLS]", "the", "[MASK]", "sat", "on", "a", "mat", "##x", "[SEP]"]


def numbers(text: str) -> list[float]:
    """The numbers with a decimal point in a text, in their order."""
    return [float(one.replace("−", "-")) for one in re.findall(r"−?\d+\.\d+", text)]


def rows_are(view: View, which: int, names: Sequence[str], values: torch.Tensor) -> None:
    """A block of rows: their names, and their numbers on one scale, which the mouse reads."""
    block = view.page.locator(".drawer .numbered").nth(which)
    assert block.locator(".rows").first.locator("> *").all_text_contents() == list(names)
    values = values.detach()
    strongest = values.abs().flatten().sort().values[-1 - values.numel() // 200]  # a few may be stronger
    known = (values / strongest).clamp(-1, 1)
    near(view.signed(block.locator("canvas"), *values.shape), known, 0.02)


def masked_filling(page, bert, stage: str, **options) -> View:
    return View(page, MaskedFilling(bert, TEXT, masked=MASKED, stage=stage, **options))


def states_of(bert) -> list[torch.Tensor]:
    with torch.no_grad():
        return bert(**bert.tokenizer.encode(TEXT, masks=MASKED).tensors())


def test_the_line(page):
    bert = our_bert("mlm")
    view = masked_filling(page, bert, "")
    stops = view.read(".stages li", "(stop) => [...stop.firstChild.children].map((one) => one.textContent)")
    assert stops == [[name, now] for _, name, now in view.widget.line]
    buttons = view.page.locator(".stages button")
    stages = ["embeddings", "layer", "read", "head", "softmax"]
    assert [buttons.nth(at).get_attribute("aria-expanded") for at in range(5)] == ["false"] * 5
    assert view.page.locator(".drawer").is_hidden()
    for at, stage in enumerate(stages):
        assert view.click(buttons.nth(at), [5, 5]) == [{"stage": stage}]
        area = buttons.nth(at).bounding_box()
        assert min(area["width"], area["height"]) >= 24
    view = masked_filling(page, bert, "read")
    opened = view.page.locator(".stages [aria-expanded=true]")
    assert opened.count() == 1 and view.page.locator(".drawer").is_visible()
    opened.focus()
    page.keyboard.press("Enter")
    assert view.sent() == [{"stage": ""}]


def test_embeddings(page):
    bert = our_bert("mlm")
    view = masked_filling(page, bert, "embeddings", token=7)
    encoding = bert.tokenizer.encode(TEXT, masks=MASKED)
    steps = embedding_steps(bert, 7, **encoding.tensors())
    values = torch.stack([steps[name] for name in ("word", "segment", "position", "sum")])
    rows_are(view, 0, ["word “##x”", "+ segment 0", "+ position 7", "= sum"], values)
    lengths = [numbers(text)[0] for text in view.texts(".drawer .rows:last-child > *")]
    near(lengths, values.norm(dim=1), 0.006)
    canvas = view.at(".drawer canvas")
    for row in (0, 3):
        places = cells(4, 36, view.box(canvas))[36 * row : 36 * row + 36]
        for at, told in enumerate(view.told(canvas, places, ".drawer .said")):
            assert told.startswith(f"Number {at + 1} of 36: ")
            *parts, total = numbers(told.replace("− ", "−"))
            near([*parts, total], values[:, at], 0.0006)
            assert ("≈" in told) == (abs(sum(parts) - total) > 5e-4), told
    assert view.texts(".drawer .chip") == NAMES
    for token in (0, 8, 3):
        assert view.click(view.at(".drawer .chip", token), [4, 4]) == [{"token": token}]


def test_layer(page):
    bert = our_bert("mlm")
    maps = attends(bert, 9)
    view = masked_filling(page, bert, "layer", layer=3, token=6)
    weights = maps[2, :, 6]
    found = fetched_vectors(bert, states_of(bert)[2], 2, 6)
    added = found["added"]
    best = added.norm(dim=1).argsort(descending=True)[:6].tolist()
    rest = [at for at in range(9) if at not in best]
    rows = torch.stack([*added[best], added[rest].sum(0), found["bias"], added.sum(0) + found["bias"]])
    heads = [f"head {head}" for head in (1, 2, 3, 4)]
    rows_are(view, 0, [*heads, "mean"], torch.cat([weights, weights.mean(0)[None]]))
    below = view.page.locator(".drawer .numbered.small .rows").last.locator("> *")
    assert below.all_text_contents() == NAMES
    columns = view.at(".drawer canvas").bounding_box()
    for at in range(9):  # each name stands under its column
        name, middle = below.nth(at).bounding_box(), columns["x"] + (at + 0.5) * columns["width"] / 9
        assert abs(name["x"] + name["width"] / 2 - middle) < 3
        assert name["y"] >= columns["y"] + columns["height"]
    names = [*(NAMES[at] for at in best), "3 others", "bias", "= sum"]
    rows_are(view, 1, names, rows)
    mean = weights.mean(0)
    ends = view.page.locator(".drawer .numbered").nth(1).locator(".rows").last
    lengths = [f"{length:.2f}" for length in rows.norm(dim=1).tolist()]
    portions = [*mean[best].tolist(), float(mean[rest].sum())]
    view.bars(ends, list(zip(lengths[:7], portions, strict=True)))
    assert ends.locator("> .note").all_text_contents() == [f"length {length}" for length in lengths[7:]]
    small, large = view.at(".drawer canvas"), view.at(".drawer canvas", 1)
    told = view.told(small, cells(5, 9, view.box(small)), ".drawer .said")
    for (head, token), said in zip(np.ndindex(5, 9), told, strict=True):
        assert said.startswith(f"{[*heads, 'mean'][head]} gives “{NAMES[token]}” ")
        near(shares(said), [weights[head, token] if head < 4 else mean[token]])
    says = ".drawer .numbered:not(.small) + .said"
    told = view.told(large, cells(9, 36, view.box(large)), says)
    for (row, column), said in zip(np.ndindex(9, 36), told, strict=True):
        assert said.startswith(f"{names[row]}, number {column + 1}: ")
        near(numbers(said), [rows[row, column], rows[8, column]], 0.003)
    shades = view.read(".drawer .chip", "(chip) => parseInt(chip.style.getPropertyValue('--shade'))")
    near(shades, 46 * mean / mean.max(), 1)
    for token in (8, 2):
        assert view.click(view.at(".drawer .chip", token), [4, 4]) == [{"token": token}]
    read = "(line) => [...line.children].map((part) => part.textContent).concat(line.textContent)"
    layers = view.read(".by-layer li", read)
    best = bert.answers("mlm", torch.stack(states_of(bert))[:, 0, 2]).max(-1)
    for at, (line, index, answer) in enumerate(zip(layers, best.indices, best.values.tolist(), strict=True)):
        assert line[:2] == [str(at), bert.tokenizer.word_piece(index)]
        near(shares(line[2][len("".join(line[:2])) :]), [answer])
    assert view.page.locator(".by-layer li").nth(3).get_attribute("class") == "now"
    view.page.get_by_label("Layer", exact=True).fill("1")
    assert view.sent() == [{"layer": 1}]


def test_read(page):
    bert = our_bert("mlm")
    view = View(page, MaskedFilling(bert, TEXT, masked=[(4, 7), (12, 14)], stage="read"))
    with torch.no_grad():
        last = bert(**bert.tokenizer.encode(TEXT, masks=[(4, 7), (12, 14)]).tensors())[-1][0]
    rows_are(view, 0, ["[MASK]", "[MASK]"], last[[2, 4]])
    marked = view.read(".drawer .chip", "(chip) => chip.classList.contains('read')")
    assert [at for at, one in enumerate(marked) if one] == [2, 4]


def test_head_of_words_to_guess(page):
    bert = our_bert("mlm")
    view = masked_filling(page, bert, "head")
    head = bert.heads["mlm"]
    with torch.no_grad():
        state = states_of(bert)[-1][0, 2]
        vector = head.norm(head.activation(head.dense(state)))
        logits = head(state)
    best = logits.topk(6)
    names = [bert.tokenizer.word_piece(at) for at in best.indices.tolist()]
    matrix = head.decoder.weight[best.indices].detach()
    rows_are(view, 0, ["T"], vector[None])
    rows_are(view, 1, names, matrix)
    rows_are(view, 2, [f"T × {names[0]}"], (matrix[0] * vector)[None])
    chances = logits.softmax(-1)[best.indices].tolist()
    rows = view.page.locator(".drawer .numbered").nth(1).locator(".rows").last
    logit = [f"{value:.1f}".replace("-", "−") for value in best.values.tolist()]
    view.bars(rows, [list(one) for one in zip(logit, chances, strict=True)])
    assert "6 of 99 classes × 36 numbers" in view.texts(".drawer h4")[0]
    for at in (5, 2):
        row = int(best.indices[at])
        assert view.click(view.at(".drawer button.name", at), [4, 4]) == [{"row": row}]


def test_head_of_classes(page):
    """What TokenTagger shows: with all classes, and how a word's pieces join."""
    bert = sentence_bert()
    text = "The unplayful cat sat"
    view = View(page, TokenTagger(bert, text, pinned=1, row=2, stage="head"))
    weight, labels = bert.heads["pos"].weight.detach(), bert.heads["pos"].labels
    with torch.no_grad():
        states = bert(**bert.tokenizer.encode(text).tensors())[-1]
        vector, logits = states[0, 2], bert.logits("pos", states)[0]  # un; "the" is token 1
    products = weight[2] * vector
    best = logits[2:5].softmax(-1).max(-1)
    said = view.texts(".joined")[0]
    told = re.findall(r"(\S+) (?:is|would be) ([A-Z]+) \(", said)
    pieces = ("un", "##play", "##ful")
    assert told == [(piece, labels[at]) for piece, at in zip(pieces, best.indices, strict=True)]
    near(shares(said), best.values)
    rows_are(view, 0, ["T"], vector[None])
    rows_are(view, 1, labels, weight)
    rows_are(view, 2, ["T × DET"], products[None])
    strip, matrix = view.at(".drawer canvas"), view.at(".drawer canvas", 1)
    for canvas, rows in ((matrix, range(4)), (strip, [2])):
        told = view.told(canvas, cells(len(rows), 24, view.box(canvas)), ".drawer .said")
        for said, (at, column) in zip(told, np.ndindex(len(rows), 24), strict=True):
            assert said.startswith(f"{labels[rows[at]]}, number {column + 1} of 24: weight ")
            known = [weight[rows[at], column], vector[column], products[column]]
            near(numbers(said), known[: 3 if rows[at] == 2 else 2], 0.003)
    lines = zip(logits[2].tolist(), logits[2].softmax(-1).tolist(), strict=True)
    rows = [[f"{logit:.1f}".replace("-", "−"), share] for logit, share in lines]
    view.bars(view.page.locator(".drawer .numbered").nth(1).locator(".rows").last, rows)
    names = view.read(".drawer button.name", "(one) => one.getAttribute('aria-label')")
    logit = [f"{value:.2f}".replace("-", "−") for value in logits[2].tolist()]
    assert names == [f"{label}, logit {value}" for label, value in zip(labels, logit, strict=True)]
    largest = products.abs().argsort(descending=True)[:10]
    table = view.read(".largest tr", "(row) => [...row.children].slice(1).map((cell) => cell.textContent)")
    assert table[0] == [*(str(at + 1) for at in largest.tolist()), "…", "all 24"]
    for line, values in zip(table[1:], (vector, weight[2], products), strict=True):
        near([numbers(cell)[0] for cell in line[:10]], values[largest], 0.006)
    near(numbers(table[3][11]), [products.sum()], 0.006)
    near(numbers(view.texts(".sum")[0]), [logits[2, 2]], 0.006)
    for row in (0, 3, 1):
        assert view.click(matrix, cells(4, 24, view.box(matrix))[24 * row + 7]) == [{"row": row}]
    for row in (0, 3, 1):
        assert view.click(view.at(".drawer button.name", row), [4, 4]) == [{"row": row}]


def test_softmax(page):
    bert = our_bert("mlm")
    view = masked_filling(page, bert, "softmax")
    with torch.no_grad():
        logits = bert.logits("mlm", states_of(bert)[-1])[0, 2]
    best = logits.topk(6)
    chances = logits.softmax(-1)
    names = [bert.tokenizer.word_piece(at) for at in best.indices.tolist()]
    assert view.texts(".softmax tbody th") == [*names, "93 others"]
    table = view.read(".softmax tbody tr", "(row) => [...row.children].map((cell) => cell.textContent)")
    powers = (logits - logits.max()).exp()
    for line, at in zip(table, best.indices, strict=False):
        near([numbers(line[1])[0], float(line[2])], [logits[at], powers[at]], 0.006)
    shown = [*chances[best.indices].tolist(), float(1 - chances[best.indices].sum())]
    view.bars(view.at(".softmax"), [["", share] for share in shown])
    near(numbers(view.texts(".drawer .note")[0])[:1], [powers.sum()], 0.06)


def test_spans(page):
    """One token's products with S and E; and all tokens, to be the start or the end."""
    bert = our_bert("span")
    bert.heads["span"].weight.data *= 8
    passage = "the cat sat. the matxy was red!"  # the cat sat . the mat ##x ##y was red !
    view = View(page, SpanExtraction(bert, "was a cat red?", passage, chosen=4, stage="head", row=1))
    (window,) = span_windows(bert, "was a cat red?", passage)
    at, weight = window.inside[4], bert.heads["span"].weight.detach()
    with torch.no_grad():
        vector = bert(**window.encoding.tensors())[-1][0, at]
    names = ["S, for the start", "E, for the end"]
    rows_are(view, 0, ["T"], vector[None])
    rows_are(view, 1, names, weight)
    rows_are(view, 2, [f"T × {names[1]}"], (weight[1] * vector)[None])
    logit = [f"{value:.1f}".replace("-", "−") for value in window.scores[at].tolist()]
    chances = window.probabilities[at].tolist()
    bars = view.page.locator(".drawer .numbered").nth(1).locator(".rows").last
    view.bars(bars, [list(one) for one in zip(logit, chances, strict=True)])
    assert view.click(view.at(".drawer button.name"), [4, 4]) == [{"row": 0}]
    for row in (0, 1):
        options = {"chosen": 4, "stage": "softmax", "row": row}
        view = View(page, SpanExtraction(bert, "was a cat red?", passage, **options))
        best = window.scores[:, row].topk(6).indices
        tokens = [window.encoding.tokens[token].text for token in best]
        assert view.texts(".softmax tbody th") == [*tokens, f"{len(window.scores) - 6} others"]
        shown = window.probabilities[best, row].tolist()
        view.bars(view.at(".softmax"), [["", share] for share in [*shown, 1 - sum(shown)]])
        assert view.click(view.page.locator(".drawer .group button").nth(1 - row), [4, 4]) == [
            {"row": 1 - row}
        ]


def test_sentences(page):
    """What the pooler makes of [CLS] goes into the matrix, wherever [CLS] stands."""
    bert = our_bert("nsp")
    view = View(page, NextSentence(bert, "the cat sat", "a dog ran", cls_at="end", stage="head"))
    moved, places, at = place_cls(bert.tokenizer.encode("the cat sat", "a dog ran"), "end", "follow")
    with torch.no_grad():
        last = bert(**moved.tensors(), position_ids=places)[-1]
        pooled = bert.pooler(last[:, [at]])[0]
    rows_are(view, 0, ["T"], pooled[None])
    rows_are(view, 1, ["is next", "not next"], bert.heads["nsp"].weight.detach())
    assert view.texts(".drawer h4")[0].startswith("“[CLS]”: a linear layer")
    view = View(
        page, SentenceClassifier(our_bert("sentiment"), "the cat sat", hidden=[(4, 7)], stage="layer")
    )
    near(view.signed(view.at(".drawer canvas"), 5, 5)[:, 2], [0] * 5, 0.002)
    view = View(page, SentencePair(our_bert("sentiment"), "the cat", "sat", head="sentiment", stage="read"))
    marked = view.read(".drawer .chip", "(chip) => chip.classList.contains('read')")
    assert [at for at, one in enumerate(marked) if one] == [0]


# --- pictures


def test_patches(page):
    """Words and patches use the same drawers; a token without a position, and one that is hidden."""
    vit = patch_vit()  # *, another token in front, 4 x 6 patches
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), "uint8")
    pixels = wb.prepare_image(picture, vit.preprocessing)
    with torch.no_grad():
        states = vit(pixels)
    for token, name in ((0, "*, learned"), (1, "extra token 1, learned"), (9, "patch 2, 2 × E")):
        view = View(page, PatchAttention(vit, picture, stage="embeddings", query=token))
        steps = projection_steps(vit, pixels, token - 2 if token > 1 else -1 - token)
        rows = torch.stack([steps[step] for step in ("projected", "position", "token")])
        rows_are(view, 0, [name, "+ position", "= sum"], rows)
        near(rows[2].detach(), states[0][0, token], 1e-4)
    view.page.locator(".drawer select").select_option("4")
    assert view.sent() == [{"query": 4}]
    maps = attends(vit, 26)
    with torch.no_grad():
        states = vit(pixels)
    view = View(page, PatchAttention(vit, picture, stage="layer", layer=1, query=5))
    weights = maps[1, :, 5]
    heads = [f"head {head}" for head in (1, 2, 3, 4)]
    rows_are(view, 0, [*heads, "mean"], torch.cat([weights, weights.mean(0)[None]]))
    found = fetched_vectors(vit, states[1], 1, 5)
    total = (found["added"].sum(0) + found["bias"]).detach()
    canvas = view.at(".drawer canvas", 1)
    said = view.told(canvas, cells(9, 36, view.box(canvas))[-36:], ".drawer .numbered:not(.small) + .said")
    near([numbers(one)[0] for one in said], total, 0.003)
    view.page.get_by_label("Layer", exact=True).fill("3")
    assert view.sent() == [{"layer": 2}]
    lines = view.read(".by-layer li", "(line) => [...line.childNodes].map((part) => part.textContent)")
    best = class_by_layer(vit, states).detach().max(-1)
    for at, (layer, label, share) in enumerate(lines):
        assert [layer, label] == [str(at), vit.labels[best.indices[at]]]
        near(shares(share), [best.values[at]])
    view = View(page, PatchAttention(vit, picture, stage="head"))
    rows_are(view, 0, ["T"], vit.norm(states[-1])[0, :1])
    rows_are(view, 1, vit.labels, vit.heads[0].weight)
    hiding = View(page, PatchHiding(patch_vit(), picture, hidden=[3, 4], stage="layer"))
    assert not hiding.signed(hiding.at(".drawer canvas"), 5, 26)[:, 5:7].any()


def test_patches_out_of_order(page):
    vit = patch_vit()
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), "uint8")
    order = [*range(23, -1, -1)]
    options = {"order": order, "positions": "none", "stage": "embeddings", "token": 2}
    view = View(page, PatchHiding(vit, picture, **options))
    steps = projection_steps(vit, wb.prepare_image(picture, vit.preprocessing), 23)
    rows = torch.stack([steps["projected"], 0 * steps["position"], steps["projected"]])
    rows_are(view, 0, ["patch 4, 6 × E", "+ position", "= sum"], rows)


def test_the_explorers_strip(page):
    """Its token is the one that looks, heads that are off fetch nothing."""
    bert = our_bert("mlm")
    text, off = "the cat sat on a [MASK]", [(1, 0), (1, 2)]
    view = View(page, AttentionExplorer(bert, text, layer=1, query=3, off=off, stage="layer"))
    inputs = bert.tokenizer.encode(text).tensors()
    with torch.no_grad(), ablate(bert, off), record_attention(bert) as attention:
        states = bert(**inputs)
        added = bert.encoder.layers[1].attention(states[1])[0, 3]
    weights = attention[1][0, :, 3]
    assert not weights[[0, 2]].any()
    rows_are(
        view, 0, [*(f"head {at}" for at in (1, 2, 3, 4)), "mean"], torch.cat([weights, weights.mean(0)[None]])
    )
    canvas = view.at(".drawer canvas", 1)
    rows = canvas.evaluate("(canvas) => canvas.height")
    said = view.told(canvas, cells(rows, 36, view.box(canvas))[-36:], ".drawer .numbered:not(.small) + .said")
    near([numbers(one)[0] for one in said], added, 0.003)
    assert view.click(view.at(".drawer .chip", 5), [4, 4]) == [{"query": 5}]
    assert view.page.locator(".stages li").last.text_content().startswith(view.widget.answers[0][0])


def test_sigmoid(page):
    """Classes that are true or false for themselves: no powers, no sum, and no others."""
    bert = our_bert()
    bert.add_head("topic", "sentence", ["art", "food", "sport"], "multi_label_classification")
    torch.nn.init.normal_(bert.heads["topic"].weight, generator=torch.Generator().manual_seed(0))
    view = View(page, SentenceClassifier(bert, "the cat sat", head="topic", stage="softmax"))
    with torch.no_grad():
        logits = bert.logits("topic", bert(**bert.tokenizer.encode("the cat sat").tensors())[-1])[0]
    order = logits.argsort(descending=True)
    assert view.texts(".softmax thead th") == ["", "score", "sigmoid"]
    assert view.texts(".softmax tbody th") == [["art", "food", "sport"][at] for at in order]
    cells_of = view.read(".softmax tbody tr", "(row) => [row.children.length, row.children[1].textContent]")
    assert [count for count, _ in cells_of] == [3, 3, 3]
    near([numbers(text)[0] for _, text in cells_of], logits[order], 0.006)
    view.bars(view.at(".softmax"), [["", share] for share in logits.sigmoid()[order].tolist()])
    assert view.texts(".stages button")[4].startswith("sigmoid")
