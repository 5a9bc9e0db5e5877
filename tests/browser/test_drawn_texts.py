"""Views on texts draw what was computed, where it belongs: every number is read back from the browser."""

import re

import numpy as np
import pytest
import torch
from tiny import attends, our_bert, sentence_bert

import workbench as wb
from workbench.attention import weight_steps
from workbench.explain import gradient_relevance, leave_one_out
from workbench.tasks import span_windows
from workbench.widgets import (
    AttentionExplorer,
    FineTuning,
    MaskedFilling,
    NextSentence,
    SentenceClassifier,
    SentencePair,
    SpanExtraction,
    TokenTagger,
)
from workbench.widgets.base import to_bytes

from .drawn import View, cells, near, shares

pytestmark = pytest.mark.browser
TEXT = "the cat sat on a matx"  # [CLS] the cat sat on a mat ##x [SEP]


# --- AttentionExplorer


def in_heads(share: float = 0.5) -> list[list[float]]:
    """A point in each of 5 x 4 small maps, which are 40 pixels wide and 3 apart."""
    y, x = np.mgrid[:5, :4] * 43 + 18 + 40 * share
    return np.stack([x, y], -1).reshape(-1, 2).tolist()


def test_the_explorers_matrix(page):
    bert = our_bert("mlm")
    maps = attends(bert, 9)
    widget = AttentionExplorer(bert, TEXT, layer=1, head=2, view="matrix")
    widget.keep_to_compare()
    widget.layer, widget.head = 3, 1
    view = View(page, widget)
    tokens = [text for text, *_ in widget.tokens]
    large, other = view.at("canvas.large"), view.at("canvas.large", 1)
    box = view.box(large, 84, 84)
    for share in (0.1, 0.9):
        told = view.told(large, cells(9, 9, box, share), ".one .told")
        for (row, column), said in zip(np.ndindex(9, 9), told, strict=True):
            assert said.startswith(f"“{tokens[row]}” looks at “{tokens[column]}”: ")
            near(shares(said), [maps[3, 1, row, column]])
    for canvas, room, (layer, head) in ((large, box, (3, 1)), (other, view.box(other, 84, 84), (1, 2))):
        drawn = view.opacity(canvas, cells(9, 9, room)).reshape(9, 9) ** 2
        near(drawn, maps[layer, head] / maps[layer, head].max(), 0.03)
    for row, column in ((0, 0), (8, 8), (3, 6), (1, 8)):
        sent = view.click(large, cells(9, 9, box)[9 * row + column])
        assert sent == [{"query": row}, {"key": column}]
    alone = View(page, AttentionExplorer(bert, TEXT, view="matrix"))
    page.evaluate("document.querySelector('.workbench').style.width = '1200px'")
    page.evaluate("settle()")
    assert alone.read(".scroll", "(one) => one.scrollHeight - one.clientHeight")[0] == 0, "no row is cut off"


def test_the_explorers_matrix_of_many_tokens(page):
    bert = our_bert(max_position_embeddings=128)
    weights = attends(bert, 96)[2, 3]
    view = View(page, AttentionExplorer(bert, "cat " * 94, layer=2, head=3, view="matrix"))
    large = view.at("canvas.large")
    some = range(0, 96 * 96, 397)
    told = view.told(large, [cells(96, 96, view.box(large))[at] for at in some], ".one .told")
    for at, said in zip(some, told, strict=True):
        near(shares(said), [weights.flatten()[at]], 0.006)


def test_the_explorers_lines(page):
    bert = our_bert("mlm")
    maps = attends(bert, 9)
    view = View(page, AttentionExplorer(bert, TEXT, layer=3, head=1))
    assert view.read(".content", "(one) => one.childElementCount === one.childNodes.length") == [True]
    large, tokens = view.at("canvas.large"), [text for text, *_ in view.widget.tokens]
    width = view.box(large)[2]
    ends = [[0.7 * width - 2, 17 * at + 14.5 + by] for at in range(9) for by in np.arange(-6.5, 6.5, 0.5)]
    for query in range(9):  # it looks along lines to the right: the stronger, the wider and the less pale
        (said,) = view.told(large, [[0.2 * width, 17 * query + 9]], ".one .told")
        row = maps[3, 1, query].numpy()
        best = (-row).argsort()[:3]
        assert re.findall("“(.+?)”", said) == [tokens[at] for at in (query, *best)]
        near(shares(said), row[best])
        drawn = view.colours(large, ends)[:, 3].reshape(9, 26).sum(1) / 2 / 255
        steep = np.hypot(1, 17 * (np.arange(9) - query) / (0.4 * width))
        near(drawn, np.where(row < 0.01, 0, row * (0.5 + 3.5 * row) * steep), 0.15)
    for at in (0, 8, 5):
        assert view.click(large, [0.2 * width, 17 * at + 14]) == [{"query": at}]
        assert view.click(large, [0.9 * width, 17 * at + 14]) == [{"key": at}]
    view = View(page, AttentionExplorer(bert, TEXT, layer=3, head=1, hide_special=True))
    (said,) = view.told(view.at("canvas.large"), [[0.2 * width, 9]], ".one .told")
    assert said == "“[CLS]” looks at what is left out here", "and not 0 %, which no softmax gives"


def test_the_explorers_two_checkpoints(page):
    """The same head of both, as a matrix and as lines, each with its own weights; the tip tells both."""
    bert, other = our_bert("mlm"), our_bert("mlm")
    other.name = "another"
    both = [attends(one, 9, seed)[3, 1] for seed, one in enumerate((bert, other))]
    widget = AttentionExplorer(bert, TEXT, layer=3, head=1, view="matrix", beside=other)
    view = View(page, widget)
    change = both[0] - both[1]
    free = np.ones((9, 9), bool)
    for query, key, *_ in widget.differences:
        free[query, key] = False
    for which, (name, map) in enumerate(zip((bert.name, "another"), both, strict=True)):
        canvas = view.at("canvas.large", which)
        box = view.box(canvas, 84, 84)
        drawn = view.opacity(canvas, cells(9, 9, box)).reshape(9, 9) ** 2
        near(drawn, map / max(one.max() for one in both), 0.03)
        edges = view.colours(canvas, cells(9, 9, box, 0.01))[:, :3].reshape(9, 9, 3)
        for (row, column), color in zip(np.ndindex(9, 9), edges.reshape(81, 3), strict=True):
            ink = view.page.evaluate("rgb", "--keep" if change[row, column] > 0 else "--random")
            if not free[row, column] and free[max(row - 1, 0), column] and free[row, max(column - 1, 0)]:
                near(color, ink, 60)
        assert view.texts("figcaption")[which] == f"{name}: layer 4, head 2"
    tokens = [text for text, *_ in widget.tokens]
    large = view.at("canvas.large")
    told = view.told(large, cells(9, 9, view.box(large, 84, 84)), ".one .told")
    for (row, column), said in zip(np.ndindex(9, 9), told, strict=True):
        assert said.startswith(f"“{tokens[row]}” looks at “{tokens[column]}”: ")
        near(shares(said), [map[row, column] for map in both])


def test_the_explorers_small_maps(page):
    bert = our_bert("mlm")
    maps = attends(bert, 9)
    widget = AttentionExplorer(bert, TEXT, layer=3, view="matrix", off=[(1, 2)])
    effects = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)) / 9
    widget.effects = to_bytes(effects)
    view = View(page, widget)
    small, large = view.at("canvas.head-grid"), view.at("canvas.large")
    boxes = [[x, y, 40, 40] for x, y in in_heads(0)]
    drawn = view.opacity(small, [place for box in boxes for place in cells(9, 9, box)]) ** 2
    brightest = maps / maps.amax((2, 3), keepdim=True)
    drawn, plain = drawn.reshape(5, 4, 9, 9), np.ones((5, 4, 9, 9), bool)
    plain[1, 2] = False  # under a cross
    plain[3, 0] = np.pad(np.ones((7, 7), bool), 1)  # in a frame: it is shown large
    near(drawn[plain], brightest.numpy()[plain], 0.03)
    ring = view.colours(small, in_heads(-0.02))  # around each map: what the answer loses without it
    ring, values = (np.delete(all_of, 12, 0) for all_of in (ring, effects.flatten().numpy()))
    near(ring[:, 3] / 255, np.abs(values) / np.abs(values).max(), 0.03)
    losing = values > 0
    assert (np.ptp(ring[losing, :3], 0).max(), np.ptp(ring[~losing, :3], 0).max()) < (20, 20)
    assert np.abs(ring[losing, :3].mean(0) - ring[~losing, :3].mean(0)).max() > 50
    for share in (0.1, 0.9):
        told = view.told(small, in_heads(share), ".heads .told")
        for (layer, head), said in zip(np.ndindex(5, 4), told, strict=True):
            assert said.startswith(f"layer {layer + 1}, head {head + 1}")
            assert ("switched off" in said) == ((layer, head) == (1, 2))
            assert ("loses" in said) == (effects[layer, head] > 0)
            near(shares(said), [effects[layer, head].abs()])
    box = view.box(large, 84, 84)
    for layer, head in ((0, 3), (4, 0), (2, 1)):  # previewed, then pinned
        place = in_heads()[4 * layer + head]
        view.told(small, [place], ".heads .told")
        near(view.opacity(large, cells(9, 9, box)).reshape(9, 9) ** 2, brightest[layer, head], 0.03)
        assert view.click(small, place) == [{"layer": layer}, {"head": head}]


def test_the_explorers_numbers(page):
    bert = our_bert("mlm", "sentiment")
    bert.heads["sentiment"].weight.data *= 4  # classes that differ
    widget = AttentionExplorer(bert, TEXT, layer=2, head=3, query=2, key=6)
    plain = [now for _, now, _ in widget.answers]
    widget.off = [(0, 1), (4, 0)]
    view = View(page, widget)
    assert [before for *_, before in widget.answers] == pytest.approx(plain, abs=1e-4)
    view.bars(view.at(".answers"), widget.answers)
    with torch.no_grad(), wb.ablate(bert, [(0, 1), (4, 0)]):
        states = bert(**bert.tokenizer.encode(TEXT).tensors())[2]
        steps = weight_steps(bert, states, 2, 3, 2, 6)
    names = ["query", "key", "product"]
    values = np.stack([steps[name].numpy() for name in names])
    canvas = view.at(".steps canvas")
    near(view.signed(canvas, *values.shape), values / np.abs(values).max(), 0.02)
    told = view.told(canvas, cells(*values.shape, view.box(canvas)), ".steps .told")
    for (row, column), said in zip(np.ndindex(values.shape), told, strict=True):
        name, number = said.replace("−", "-").split(": ")
        assert name == f"{names[row]}, number {column + 1}"
        near(float(number), values[row, column], 0.001)
    said = view.texts(".steps h4")[0]
    assert said.startswith("How “cat” comes to look at “mat” with ")
    near(shares(said), [steps["probability"]])
    said = view.texts(".steps")[0].replace("−", "-")
    numbers = re.search(r"products (.+), divided by √9: (.+)\. Soft.+ that, (.+), over .+, (.+): ", said)
    names = ["score", "scaled", "exponential", "total"]
    near([float(number) for number in numbers.groups()], [float(steps[name]) for name in names], 0.02)


# --- NextSentence and SentencePair


@pytest.mark.parametrize("place", ["front", "end"])
def test_next_sentence(page, place):
    bert = our_bert("nsp")
    bert.heads["nsp"].weight.data *= 4
    maps = attends(bert, 10)  # [CLS] the cat sat [SEP] a mat ##x ran [SEP], or [CLS] behind all of that
    options = {"cls_at": place, "attention_layer": 3, "attention_head": 2, "stage": "layer"}
    view = View(page, NextSentence(bert, "the cat sat", "a matx ran", **options))
    cls, shift = (0, 1) if place == "front" else (9, 0)
    first, second = [shift + at for at in (0, 1, 2)], [shift + at for at in (4, 5, 6, 7)]
    special = [at for at in range(10) if at not in first + second]
    row = maps[3, 2, cls]
    names = ["the", "cat", "sat", "[SEP]", "a", "mat", "##x", "ran", "[SEP]"]
    names.insert(cls, "[CLS]")
    tokens = view.read(
        ".token",
        "(token) => [token.querySelector('b').textContent, token.title, "
        "token.querySelector('i').getBoundingClientRect().height, token.querySelector('small').textContent]",
    )
    for at, (name, title, height, numbers) in enumerate(tokens):
        assert (name, numbers) == (names[at], f"{int(at in second or at == shift + 8)} · {at}")
        near(shares(title), [row[at]])
        near(height, max(1, 34 * row[at] / row.max()), 0.6)
    stacks = view.read(
        ".stack",
        "(stack) => [stack.getAttribute('aria-label'), [...stack.children].map((part) => "
        "[part.className, part.getBoundingClientRect().width / stack.clientWidth])]",
    )
    assert len(stacks) == 15
    groups = {"first": first, "second": second, "special": special}
    for at, (label, parts) in enumerate(stacks):
        layer, who = divmod(at, 3)
        said, looking = (("[CLS]", [cls]), ("first", first), ("second", second))[who]
        assert label.startswith(f"Layer {layer + 1}, {said} looks at: the first ")
        known = [maps[layer, 2][looking][:, group].sum(-1).mean() for group in groups.values()]
        near(shares(label), known)
        assert [name for name, _ in parts] == list(groups)
        near([width for _, width in parts], known, 0.03)
    places = view.read(".between > *", "(node) => [node.offsetLeft, node.offsetTop]")
    assert len({left for left, _ in places}) == 4, "each stack under its title"
    assert [top for _, top in places] == sorted(top for _, top in places), "each layer in its row"
    answer = [view.widget.is_next] if place == "front" else [view.widget.is_next, view.widget.at_front]
    of_first = [] if place == "front" else [["The same, read from “the”", view.widget.of_first]]
    view.bars(view.at(".answer"), [["The second follows the first", *answer], *of_first])


@pytest.mark.parametrize("direction", ["hypothesis", "premise"])
def test_sentence_pair(page, direction):
    bert = our_bert("sentiment")
    bert.heads["sentiment"].weight.data *= 4
    maps = attends(bert, 12)  # [CLS] the mat ##x sat [SEP] a cat ##x ran on [SEP]
    options = {"attention_layer": 1, "attention_head": 3, "direction": direction, "lines": True}
    widget = SentencePair(bert, "the catx sat", "a catx ran on", head="sentiment", **options)
    widget.premise = "the matx sat"
    view = View(page, widget)
    differs = [abs(now - before) > 5e-4 for _, now, before in widget.classes]
    assert any(differs)
    rows = [row if one else row[:2] for row, one in zip(widget.classes, differs, strict=True)]
    view.bars(view.at(".classes"), rows)
    words = {"the": [1], "matx": [2, 3], "sat": [4], "a": [6], "catx": [7, 8], "ran": [9], "on": [10]}
    names = list(words)
    looking = names[3:] if direction == "hypothesis" else names[:3]
    looked_at = [name for name in names if name not in looking]
    links = {  # all that is paid to a word, by its pieces on average
        (one, other): float(maps[1, 3][words[one]][:, words[other]].sum(-1).mean())
        for one in looking
        for other in looked_at
    }
    found = view.at(".linked").evaluate(
        """linked => {
            const all = [...linked.querySelectorAll("button.chip")];
            const canvas = linked.querySelector("canvas");
            const corner = canvas.getBoundingClientRect();
            const inkAt = (chip) => {
                const { left, width, top, bottom } = chip.getBoundingClientRect();
                const y = (chip.classList.contains("second") ? top - 2 : bottom + 2) - corner.top;
                const x = left + width / 2 - corner.left - 6;
                const places = [...Array(26).keys()].map((at) => [x + at / 2, y]);
                return colours(canvas, places).reduce((sum, [, , , opacity]) => sum + opacity / 255, 0) / 2;
            };
            return all.map((chip) => {
                point(chip, "mouseover", [3, 3]);
                const says = [...document.querySelectorAll(".content p.note")].at(-1).textContent;
                const shades = all.map((one) => parseInt(one.style.getPropertyValue("--shade")));
                return [chip.textContent, says, shades, all.map(inkAt)];
            });
        }"""
    )
    for name, says, shades, ink in found:
        own = {pair: weight for pair, weight in links.items() if name in pair}
        best = sorted(own, key=own.get, reverse=True)
        assert re.findall(r"(\w+) → (\w+)", says) == best[:3]
        near(shares(says.split(" Point ")[0]), [own[pair] for pair in best[:3]])
        for at, other in enumerate(names):
            share = own.get((name, other), own.get((other, name), 0)) / own[best[0]]
            share = 0 if share < 0.05 else share
            near(shades[at], 60 * share, 1)
            if (other in looking) != (name in looking):
                near(ink[at], (0.1 + 0.85 * share) * (0.5 + 4 * share) if share else 0, 0.4)
    for name, number in (("the", 1), ("sat", 3), ("catx", 6), ("on", 8)):  # as words of [CLS] ... [SEP]
        assert view.click(view.at("button.chip", names.index(name)), [5, 5]) == [{"pinned": number}]


# --- SpanExtraction


def test_span_extraction(page):
    bert = our_bert("span")
    bert.heads["span"].weight.data *= 8
    passage = "the cat sat. the matxy was red!"  # the cat sat . the mat ##x ##y was red !
    widget = SpanExtraction(bert, "was a cat red?", passage, longest=6, chosen=4, start_by_end=True)
    view = View(page, widget)
    (window,) = span_windows(bert, "was a cat red?", passage)
    start, end = window.probabilities[window.inside.start : window.inside.stop].T.numpy()
    ends = [(token.start, token.end) for token in window.tokens]

    # The bars under each piece.
    pieces = view.read(
        "button.piece",
        "(piece) => [piece.title, ...['.start', '.end'].flatMap((kind) => ["
        "piece.querySelector(kind).getBoundingClientRect().height, "
        "getComputedStyle(piece.querySelector(kind)).backgroundColor])]",
    )
    colours = view.read(".note > .swatch", "(swatch) => getComputedStyle(swatch).backgroundColor")[:2]
    assert len(pieces) == 11
    gap = "(piece) => piece.offsetWidth - piece.querySelector('span').offsetWidth"
    assert max(view.read("button.piece", gap)) <= 1, "and none stands apart"
    whole = view.read("span.whole", "(word) => [word.textContent, getComputedStyle(word).whiteSpace]")
    assert ["matxy", "nowrap"] in whole and ["sat.", "nowrap"] in whole, "no line ends inside"
    for at, (title, start_height, start_colour, end_height, end_colour) in enumerate(pieces):
        assert title.startswith(f"{passage[slice(*ends[at])]}: start ")
        near(shares(title), [start[at], end[at]])
        near([start_height, end_height], [20 * start[at], 20 * end[at]], 0.1)  # 20 pixels are 100 %
        assert [start_colour, end_colour] == colours

    # The map: columns are starts, rows are ends.
    canvas = view.at("canvas.map")
    edge = 84  # where the words stand
    box = view.box(canvas, edge, edge)
    side = box[2] / 11
    written = [
        [[x, edge + (at + 0.5) * side + y] for x in range(edge) for y in range(-3, 5)] for at in range(11)
    ]
    for at, points in enumerate(written):  # the end beside its row, the start above its column
        for places in (points, [[y, x] for x, y in points]):
            assert view.colours(canvas, places)[:, 3].max() > 60, at
    joint = np.outer(end, start)
    possible = np.array([[0 <= row - column < 6 for column in range(11)] for row in range(11)])
    drawn = view.opacity(canvas, cells(11, 11, box), "--back").reshape(11, 11)
    near(drawn[possible] ** 2, joint[possible] / joint[possible].max(), 0.03)
    grey = view.page.evaluate("rgb", "--special-soft")
    near(view.colours(canvas, cells(11, 11, box)).reshape(11, 11, 4)[~possible][:, :3], [grey] * 70, 2)
    for share in (0.15, 0.85):
        told = view.told(canvas, cells(11, 11, box, share), "[aria-label='Start × end'] [role=status]")
        for (row, column), said in zip(np.ndindex(11, 11), told, strict=True):
            if possible[row, column]:
                assert said.startswith(f"“{passage[ends[column][0] : ends[row][1]]}”: ")
                near(shares(said), [joint[row, column]])
            elif row < column:
                texts = [passage[slice(*ends[at])] for at in (column, row)]
                assert said.startswith("From “{}” back to “{}”".format(*texts))
            else:
                assert said.startswith("More word pieces")
    for row, column in ((0, 0), (10, 10), (7, 3)):
        assert view.click(canvas, cells(11, 11, box)[11 * row + column]) == [{"chosen": column}]
    for at in (0, 10, 5):
        assert view.click(view.at("button.piece", at), [4, 4]) == [{"chosen": at}]

    # The answers and the scores.
    answers = wb.answer_question(bert, "was a cat red?", passage, longest=6).answers
    view.bars(view.at(".answers"), [[answer.text, answer.probability] for answer in answers])
    assert view.click(view.at(".answers .bar", 2), [5, 5]) == [{"pinned": 2}]
    best = [at for at, (first, _) in enumerate(ends) if first == answers[0].start][0]
    last = [at for at, (_, last) in enumerate(ends) if last == answers[0].end][0]
    scores = window.scores[window.inside.start :]
    numbers = float(scores[best, 0] + scores[last, 1]), float(window.scores[0].sum())
    said = view.texts("[aria-label='Or no answer'] p")[0]
    near([float(number.replace("−", "-")) for number in re.findall(r"[−\d.]+", said)[:2]], numbers, 0.006)
    near(shares(said), [window.probabilities[0].prod()])


# --- MaskedFilling


def test_masked_filling(page):
    bert = our_bert("mlm")
    maps = attends(bert, 10)  # [CLS] the mat ##x sat on a cat ##x [SEP]
    text, masked = "the matx sat on a catx", [(0, 3), (9, 12)]
    widget = MaskedFilling(bert, text, masked=masked, attention_layer=2, attention_head=1, pinned=1)
    view = View(page, widget)
    words = [[0], [1], [2, 3], [4], [5], [6], [7, 8], [9]]
    paid = {at: [float(maps[2, 1, at, word].sum()) for word in words] for at in (1, 4)}  # from each mask
    shown = (
        "([...document.querySelectorAll('.chip')].map((chip) => "
        "[chip.title, parseInt(chip.style.getPropertyValue('--shade'))]))"
    )
    for over, mask in ((None, 4), (1, 1), (3, 4), (6, 4)):  # with the mouse on another mask, that one's
        if over is not None:
            view.at(".chip", over).evaluate("(chip) => point(chip, 'mouseover', [3, 3])")
        for (title, shade), weight in zip(view.page.evaluate(shown), paid[mask], strict=True):
            near(shares(title), [weight])
            near(shade, 42 * weight / max(paid[mask]), 0.6)
    view.page.get_by_role("button", name="Lines").click()
    assert view.sent() == [{"lines": True}]
    ink = view.at("canvas.links").evaluate(
        """canvas => [...document.querySelectorAll(".chip")].map((chip) => {
            const [corner, { left, width, top }] = [canvas, chip].map((node) => node.getBoundingClientRect());
            const x = left + width / 2 - corner.left - 8;
            const places = [...Array(17).keys()].map((at) => [x + at, top - corner.top]);
            return colours(canvas, places).reduce((sum, [, , , opacity]) => sum + opacity / 255, 0);
        })"""
    )
    others = [at for at in range(8) if at != 3]
    order = sorted(others, key=lambda at: -paid[4][at])
    assert max(others, key=lambda at: ink[at]) == order[0] and ink[order[-1]] < ink[order[1]]

    guesses = wb.fill_mask(bert, text, masks=masked)
    for at, guess in enumerate(guesses):
        view.bars(view.at(".card", at), [[one.label, one.probability] for one in guess.candidates])
        title = view.texts(".card .title")[at]
        assert title.startswith(f"Mask {at + 1} was “{guess.original}” rank {guess.rank} · ")
        near(shares(title), [guess.probability])
    for at, now in (
        (2, [[0, 3], [4, 8], [9, 12]]),
        (6, [[0, 3], [4, 8], [9, 12], [18, 22]]),
        (1, [[4, 8], [9, 12], [18, 22]]),
    ):
        assert view.click(view.at(".chip", at), [5, 5]) == [{"masked": now}]


def test_masked_filling_with_words_hidden(page):
    bert = our_bert("mlm")
    text, masked = "the matx sat on a catx", [(0, 3), (9, 12)]
    widget = MaskedFilling(bert, text, masked=masked, pinned=1, hide="right")
    view = View(page, widget)
    full = wb.fill_mask(bert, text, top_k=99, masks=masked)[1].candidates
    full = {one.label: one.probability for one in full}
    names = [name for name, *_ in widget.guesses["cards"][1]["candidates"]]
    now = {name: value for name, value, _ in widget.guesses["cards"][1]["candidates"]}
    assert any(abs(now[name] - full[name]) > 1e-3 for name in names)
    view.bars(view.at(".card", 1), [[name, now[name], full[name]] for name in names])


# --- TokenTagger and SentenceClassifier


def test_token_tagger(page):
    bert = sentence_bert()
    text = "The unplayful cat sat"
    inputs, head = bert.tokenizer.encode(text).tensors(), bert.heads["pos"]
    with torch.no_grad():  # words and pieces of different classes
        head.bias -= head(bert(**inputs)[-1])[0, 2:5].mean(0)
        answers = bert.answers("pos", bert(**inputs)[-1])[0, 2:5]  # of the three pieces
    assert len({*answers.argmax(-1).tolist()}) > 1
    assert len({tag.label for tag in wb.tag_words(bert, text)}) > 1
    widget = TokenTagger(bert, text, pinned=1, stage="head")
    view = View(page, widget)
    chips = view.read(
        ".chip", "(chip) => [chip.title, ...[...chip.children].map((part) => part.textContent)]"
    )
    for chip, tag in zip(chips, wb.tag_words(bert, text), strict=True):
        assert chip[1:3] == [tag.word, tag.label] and chip[0].startswith(f"{tag.label} ")
        near(shares(chip[0]), [tag.probability])
    assert chips[1][3] == "un ##play ##ful"
    said = view.texts(".workbench")[0].split("The first one speaks for the word: ")[1]
    for piece, row, told in zip(("un", "##play", "##ful"), answers, said.split(", "), strict=False):
        how = "is" if piece == "un" else "would be"
        assert told.startswith(f"{piece} {how} {head.labels[int(row.argmax())]} (")
        near(shares(told)[:1], [float(row.max())])
    for word in (0, 3, 2):
        assert view.click(view.at(".chip", word), [5, 5]) == [{"pinned": word}]


def test_sentence_classifier(page):
    bert = sentence_bert()
    text = "The unplayful cat sat, the dog ran."
    widget = SentenceClassifier(bert, text, hidden=[(14, 17)])  # cat
    widget.complete()
    view = View(page, widget)
    encoding = bert.tokenizer.encode(text)
    names = bert.heads["sentiment"].labels
    label = names.index(widget.bars[0][0])
    relevance = gradient_relevance(bert, "sentiment", encoding, label, [3])
    falls = leave_one_out(bert, "sentiment", encoding, label, range(1, 10), [3])
    view.bars(view.at("[aria-label^='Answers']"), widget.bars)
    everything = {one.label: one.probability for one in wb.classify_sentence(bert, text)}
    assert {name: before for name, _, before in widget.bars} == pytest.approx(everything, abs=1e-4)
    shown = view.read(
        ".reasons .chips",
        "(row) => [...row.querySelectorAll('button.chip')].map((chip) => [...['.text', 'small'].map("
        "(part) => chip.querySelector(part).textContent), parseInt(chip.style.getPropertyValue('--shade')), "
        "chip.classList.contains('against')])",
    )
    words = ["The", "unplayful", "cat", "sat", ",", "the", "dog", "ran", "."]
    for row, values in zip(shown, (relevance[1:-1], falls), strict=True):
        assert [name for name, *_ in row] == words and row[2][1] == "hidden"
        for at, (_, written, shade, against) in enumerate(row):
            if at != 2:
                number = shares(written)[0] if "%" in written else float(written.replace("−", "-")) / 100
                near(number, values[at], 0.006)
                strongest = values[[0, 1, 3, 4, 5, 6, 7, 8]].abs().max().clamp(min=0.01)
                near(shade, 46 * values[at].abs() / strongest, 1)
                assert against == written.startswith("−")
    spans = [[word.start, word.end] for word in encoding.words if not word.special]
    for row, at in ((0, 0), (1, 8), (1, 5)):
        chip = view.page.locator(".reasons .chips").nth(row).locator("button.chip").nth(at)
        assert view.click(chip, [5, 5]) == [{"hidden": sorted([spans[2], spans[at]])}]
    assert view.click(view.at(".bar", 1), [5, 5]) == [{"target": widget.bars[1][0]}]


def test_falls_of_less_than_a_point_stay_pale(page):
    widget = SentenceClassifier(sentence_bert(), "The cat sat.")
    widget.complete()
    widget.left_out = to_bytes(widget._falls / widget._falls.abs().max() * 4e-4)  # no tenth of a point
    chips = ".reasons .columns > :last-child button.chip"
    shown = "(chip) => [chip.querySelector('small').textContent, chip.style.getPropertyValue('--shade')]"
    for written, shade in View(page, widget).read(chips, shown):
        assert written == "0" and int(shade.removesuffix("%")) <= 2


# --- FineTuning


def color_of_class(label: int) -> str:
    """The colour of one class of three, as TokenTagger has it."""
    return f"hsl({120 * label} 75% 50%)"


def test_fine_tuning(page):
    widget = FineTuning(sentence_bert(), [("the cat", "cat")] * 9, lambda *_: None, steps=40)
    # Step, loss, accuracy, held-out loss, held-out accuracy.
    curves = {
        "frozen": [[0, 1.9, 0.2, 2.1, 0.1], [20, 1.1, 0.6, 1.4, 0.5], [40, 0.6, 0.9, 0.8, 0.75]],
        "fine-tuned": [[0, 1.8, 0.3, 2.0, 0.25], [20, 0.9, 0.7, 1.2, 0.65], [40, 0.1, 1.0, 0.3, 0.85]],
    }
    counts = {"frozen": [[7, 1, 2], [0, 5, 3], [4, 0, 6]], "fine-tuned": [[9, 0, 1], [2, 6, 0], [0, 3, 7]]}
    widget.frozen, widget.tuned = (to_bytes(torch.tensor(rows)) for rows in curves.values())
    widget.tables = {
        name: {"labels": ["ant", "bee", "cow"], "counts": table} for name, table in counts.items()
    }
    places = {
        "frozen": [[0, 0, 4, 0, 0, 2], [0, 0, 4, 0, 0, 2]],
        "fine-tuned": [[0, 0, 1, 0, 0, 1], [-6, 3, 5, 0, 0, -2]],
    }
    widget.frozen_places, widget.tuned_places = (to_bytes(torch.tensor(rows)) for rows in places.values())
    widget.true, widget.labels = [0, 2, 1], ["ant", "bee", "cow"]
    widget.state, widget.cell, widget.shown = "done", ["fine-tuned", "bee", "ant"], ["one", "two"]
    view = View(page, widget)
    assert view.texts(".shown h4") == ["Fine-tuned encoder: bee, taken for ant"]
    for at, run in enumerate(curves):
        section = view.page.locator(".columns > .part").nth(at)
        assert section.locator("h4").text_content() == f"{run.capitalize()} encoder"
        assert (
            section.locator("b").text_content()
            == f"{(75, 85)[at]}\u00a0% of what was held out is right after 40 steps"
        )
        assert section.locator("figcaption").all_text_contents()[:2] == ["Accuracy", "Loss"]
        canvas = section.locator("canvas.scatter")
        width, height = canvas.evaluate("node => [node.clientWidth, node.clientHeight]")
        across, down = ((4, 2), (6, 3))[at]
        scale = min((width / 2 - 8) / across, (height / 2 - 8) / down)
        for moment, look in ((0, 0), (1, 1)):
            view.page.evaluate("([name, value]) => model.set(name, value)", ["moment", moment])
            view.page.evaluate("settle()")
            xy = np.array(places[run][look]).reshape(-1, 2) * [scale, -scale] + [width / 2, height / 2]
            for place, label in zip(xy.tolist(), widget.true, strict=True):
                wanted = view.page.evaluate("rgb", color_of_class(label))
                near(view.colours(canvas, [place])[0][:3], wanted, 3)
        assert section.locator(".legend").text_content() == "antbeecow" and len(view.sent()) == 2
        rows = np.array(curves[run])
        for number, most in enumerate((1, 2.1)):
            plot = section.locator("svg").nth(number)
            for kind, column in (("base", 2 - number), ("main", 4 - number)):
                points = plot.locator(f"polyline.{kind}").get_attribute("points")
                x, y = np.array([point.split(",") for point in points.split()], float).T
                near((x - 52) / 240, rows[:, 0] / 40, 0.002)
                near((1 - (y - 10) / 122) * most, rows[:, column], 0.003)
            near(
                plot.locator("circle").evaluate_all("all => all.map((one) => +one.getAttribute('cy'))"),
                y,
                0.01,
            )
        table = section.locator("table.confusion")
        heads = table.locator("thead th").all_text_contents()[1:]
        lines = table.locator("tbody tr").evaluate_all(
            "rows => rows.map((row) => [...row.children].map((cell) => "
            "[cell.textContent, cell.querySelector('button')?.getAttribute('aria-label')]))"
        )
        for (true, *found), known in zip(lines, counts[run], strict=True):
            for said, (written, label), count in zip(heads, found, known, strict=True):
                assert (written, label) == (str(count or "·"), f"{count} of {true[0]} taken for {said}")
        for truth, said in ((0, 0), (2, 2), (0, 2) if at == 0 else (1, 0)):
            cell = ["ant", "bee", "cow"][truth], ["ant", "bee", "cow"][said]
            place = table.locator("button").nth(3 * truth + said)
            assert view.click(place, [5, 5]) == [{"do": "look", "cell": [run, *cell]}]


def test_words_of_held_out_answers_are_not_broken(page):
    """In two columns beside each other in a narrow window."""
    page.set_viewport_size({"width": 800, "height": 700})
    rows = [(f"the cat sat on mat {number}", "who sat on the mat", "cat") for number in range(8)]
    widget = FineTuning(our_bert("mlm"), rows, lambda *_, **__: None, kind="span")
    answers = [["Where did the family move to?", "Oldbridge", "Oldbridge"]] * 8
    widget.tables = {run: {"answers": answers} for run in ("frozen", "fine-tuned")}
    view = View(page, widget)
    lines = view.read(
        ".lined tbody td:last-child",
        """(cell) => {
            const text = document.createRange();
            text.selectNodeContents(cell);
            return [cell.textContent, text.getClientRects().length];
        }""",
    )
    assert lines == [["right", 1]] * 16
