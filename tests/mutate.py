"""Do the tests notice a fault? Puts one at a time into a copy of the package and runs those that should.

By hand: `python tests/mutate.py` for all, `python tests/mutate.py .py` for those in Python, `.js` for those
in JavaScript, or any other parts of a path or a line. A few seconds a fault; ends with 1 if one survived.
"""

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FORK = multiprocessing.get_context("fork")  # of a process that has imported the large libraries: seconds each


class Fault(NamedTuple):
    """A line of a file in workbench/ (or a part of one that is there once), what stands there instead, and
    the tests that should fail then."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> Path:
        return Path("workbench") / self.file

    def __str__(self) -> str:
        return f"{self.file}: {self.new}"

    def applies(self, root: Path = ROOT) -> bool:
        """Whether the line is still there, once."""
        return (root / self.path).read_text(encoding="utf-8").count(self.old) == 1


def in_python(file: str, old: str, new: str, *tests: str) -> Fault:
    return Fault(file, old, new, tuple(f"tests/{test}" for test in tests))


def in_text_views(file: str, old: str, new: str, *tests: str) -> Fault:
    return Fault(file, old, new, tuple(f"tests/browser/test_drawn_texts.py::test_{test}" for test in tests))


def in_picture_views(file: str, old: str, new: str, *tests: str) -> Fault:
    return Fault(
        file, old, new, tuple(f"tests/browser/test_drawn_pictures.py::test_{test}" for test in tests)
    )


FAULTS = [
    # --- only what is 0 or 100 % is called so
    in_python(
        "widgets/base.py",
        "    half[(half == 1) & (array < 1)] = 1 - 2**-11\n",
        "",
        "test_widgets.py::test_only_what_is_0_or_100_percent_crosses_as_such",
    ),
    in_python(
        "widgets/base.py",
        "min(max(round(numbers, digits), step), 1 - step) if 0 < numbers < 1 else round(numbers, digits)",
        "round(numbers, digits)",
        "test_widgets.py::test_only_what_is_0_or_100_percent_crosses_as_such",
    ),
    in_text_views(
        "widgets/shared.js",
        "(exponent ? 1024 : 0)",
        "1024",
        "the_explorers_lines[1x]",
    ),
    in_picture_views(
        "widgets/patch_hiding.js",
        "best() >= 0.5",
        "best() >= 0.3",
        "who_is_not_sure_says_so[1x]",
    ),
    # --- words of several pieces
    in_python(  # the sum over the pieces that look, not their mean
        "widgets/sentence_pair.py",
        "self._maps = sum_over_words(paid.mT, place).mT / counts[:, None]",
        "self._maps = sum_over_words(paid.mT, place).mT",
        "test_widgets_pairs.py::test_lines_between_words_of_several_pieces",
    ),
    in_python(  # a word's class is learned at its last piece
        "training/lessons.py",
        "new = [at == 0 or part.word_ids[at - 1] != word for",
        "new = [[*part.word_ids, None][at + 1] != word for",
        "training/test_lessons.py::test_a_word_has_its_class_at_its_first_piece",
    ),
    in_python(  # and read there
        "tasks.py",
        "if index == 0 or tokens[index - 1].word != token.word:",
        "if index + 1 == len(tokens) or tokens[index + 1].word != token.word:",
        "test_tasks.py::test_tags_are_theirs",
    ),
    in_python(  # the last piece's vector goes through the linear layer
        "widgets/token_tagger.py",
        "return self._tokens[self.pinned].start",
        "return self._tokens[self.pinned][-1]",
        "test_widgets_strip.py::test_a_pinned_word_is_what_head_and_layers_tell_of",
    ),
    in_python(  # the first piece stands for a word's vector
        "patches.py",
        "found.append(states[:, pieces].float().mean(1).cpu())",
        "found.append(states[:, pieces].float()[:, 0].cpu())",
        "test_patches.py::test_vectors_of_a_word",
    ),
    in_python(  # only the first piece of a word is hidden
        "explain.py",
        "visible[row, list(words[number].tokens)] = False",
        "visible[row, words[number].tokens.start] = False",
        "test_explain.py::test_a_hidden_word_is_hidden_with_all_its_pieces",
    ),
    in_python(  # a word's relevance is the mean over its pieces
        "explain.py",
        "shares = sum_over_words(row, encoding.word_numbers)",
        "shares = sum_over_words(row, encoding.word_numbers) / sum_over_words(row**0, encoding.word_numbers)",
        "test_explain.py::test_relevance_is_shares_of_words",
    ),
    in_python(  # the most that a piece has, where all of them start and end an answer
        "widgets/span_extraction.py",
        "chances = window.probabilities[list(word.tokens)].sum(0).tolist()",
        "chances = window.probabilities[list(word.tokens)].amax(0).tolist()",
        "test_widgets_span.py::test_the_still_picture_adds_up_the_pieces_of_a_word",
    ),
    in_python(  # of a word chosen at random only the last piece is masked
        "text.py",
        "start = spans.get(token.word, (token.start,))[0]",
        "start = token.start",
        "test_text.py::test_words_chosen_at_random_are_whole",
    ),
    in_python(  # a span masks its neighbours
        "text.py",
        "for start, end, action in spans if start < token.end and token.start < end]",
        "for start, end, action in spans if start <= token.end and token.start < end]",
        "test_text.py::test_spans_of_characters",
    ),
    in_python(  # words of a pair are numbered twice
        "training/text_learner.py",
        "np.asarray(second[1], dtype=np.int32) + words.max() + 1, [0]",
        "np.asarray(second[1], dtype=np.int32) + words.max(), [0]",
        "training/test_text_learner.py::test_rows_are_packed_and_padded",
    ),
    in_python(  # answers stand beside the word before
        "training/lessons.py",
        "text.split()[word - 1]",
        "text.split()[word - 2]",
        "training/test_lessons.py::test_answers_are_those_of_the_task",
    ),
    # --- batches, windows and rounding
    in_python(  # the less probable of two copies of a span
        "tasks.py",
        "known[0].probability < value",
        "known[0].probability > value",
        "test_tasks.py::test_of_two_copies_of_a_span_the_more_probable_counts",
    ),
    in_python(  # no answer counts where it scores highest
        "tasks.py",
        "return min(windows, key=lambda window: window.no_answer_score)",
        "return max(windows, key=lambda window: window.no_answer_score)",
        "test_tasks.py::test_no_answer_counts_where_it_scores_lowest",
        "test_widgets_span.py::test_no_answer_is_that_of_the_window_where_it_scores_lowest",
    ),
    in_python(  # each window answers up to its edge
        "text.py",
        "borders = [0, *(start + stride // 2 for start in starts[1:]), len(tokens)]",
        "borders = [0, *(start for start in starts[1:]), len(tokens)]",
        "test_tasks.py::test_long_texts",
    ),
    in_python(  # halves are rounded up
        "explain.py",
        "* count / steps).round()[:, None]",
        "* count / steps + 0.5).floor()[:, None]",
        "test_explain.py::test_where_rounding_meets_a_half",
    ),
    in_python(  # uncovered in the opposite order, read backwards: 5 of 9 patches where half are hidden
        "explain.py",
        "hidden = torch.stack([deleted, ~deleted, *others])",
        "hidden = torch.stack([deleted, hiding_steps(order.flip(0), steps).flip(0), *others])",
        "test_explain.py::test_as_many_are_uncovered_as_are_hidden",
    ),
    in_python(  # always the first masks
        "widgets/masked_filling.py",
        "shown = masks[first : first + CARDS]",
        "shown = masks[:CARDS]",
        "test_widgets.py::test_pages_of_masks",
    ),
    in_python(  # the strongest of the cells that one stands for
        "widgets/attention_explorer.py",
        "thumbnails = F.adaptive_avg_pool2d(self._maps[0], self.side)",
        "thumbnails = F.adaptive_max_pool2d(self._maps[0], self.side)",
        "test_widgets_explorer.py::test_small_maps_of_a_long_text_are_averaged",
    ),
    in_python(  # every copy goes without the first head
        "attention.py",
        "probabilities[range(count), range(count)] = 0",
        "probabilities[range(count), 0] = 0",
        "test_widgets_explorer.py::test_all_heads_are_tried_each_alone",
    ),
    in_python(  # pictures beyond the first 64 are others
        "training/picture_learner.py",
        "for part in pixels.split(64):",
        "for part in [pixels[:64][: len(part)] for part in pixels.split(64)]:",
        "training/test_picture_learner.py::test_pictures_are_classified_in_parts",
    ),
    in_python(  # the start or the end of a span is enough
        "training/text_learner.py",
        'hits = (said == right).view(-1, 2 if bert.heads[head].kind == "span" else 1).all(-1)',
        'hits = (said == right).view(-1, 2 if bert.heads[head].kind == "span" else 1).any(-1)',
        "training/test_text_learner.py::test_figures_are_how_often_a_head_is_right",
    ),
    in_python(  # what was held out, in another order
        "training/lessons.py",
        "[images[number] for number in held_out]",
        "[images[number] for number in reversed(held_out)]",
        "test_widgets_pictures.py::test_a_new_head_learns_and_the_old_model_stays",
    ),
    # --- who looks at whom
    in_python(
        "widgets/sentence_pair.py",
        'rows, columns = self._sides() if self.direction == "premise" else self._sides()[::-1]',
        'rows, columns = self._sides() if self.direction != "premise" else self._sides()[::-1]',
        "test_widgets_pairs.py::test_lines_between_words_of_several_pieces",
    ),
    in_python(
        "widgets/masked_filling.py",
        "self._attention, self._encoding = maps[:, :, masks], encoding",
        "self._attention, self._encoding = maps.mT[:, :, masks], encoding",
        "test_widgets.py::test_attention_to_a_word_is_that_to_all_its_pieces",
    ),
    in_python(
        "widgets/next_sentence.py",
        "self._from_cls = maps[:, :, index].clone()",
        "self._from_cls = maps[..., index].clone()",
        "test_widgets_pairs.py::test_next_sentence_is_theirs",
    ),
    in_python(  # the sum over a group's tokens
        "attention.py",
        "to[:, group].mean(1) for group in (cls, first, second)",
        "to[:, group].sum(1) for group in (cls, first, second)",
        "test_attention.py::test_attention_between_two_texts_by_hand",
    ),
    in_python(  # the last layer first
        "attention.py",
        "result = with_residual if result is None else with_residual @ result",
        "result = with_residual if result is None else result @ with_residual",
        "test_attention.py::test_rollout_knows_first_from_last",
    ),
    in_python(  # who looks at the patch
        "widgets/picture.py",
        "small = attention[:, :, query, self.prefix :]",
        "small = attention[:, :, self.prefix :, query]",
        "test_widgets_patch_attention.py::test_maps_are_the_models_own",
    ),
    in_python(  # it opens on one patch
        "widgets/patch_attention.py",
        "self._attention.shape[-1]), self.layers // 2",
        "self._attention.shape[-1]), 0",
        "test_widgets_patch_attention.py::test_it_opens_on_the_head_that_shows_most",
    ),
    in_python(  # the tick is that of the last layer
        "widgets/patch_hiding.py",
        "now_and_before(labels, now[layer], self._whole[layer], best)",
        "now_and_before(labels, now[layer], self._whole[-1], best)",
        "test_widgets_pictures.py::test_hiding_gives_the_models_own_classes",
    ),
    in_python(  # ends in place of starts
        "widgets/span_extraction.py",
        "band = [joint[row, row : row + self.longest] for row in range",
        "band = [joint[: self.longest, row] for row in range",
        "test_widgets_span.py::test_the_map_holds_what_is_possible",
    ),
    in_python(  # the strip tells of a word that was clicked long ago
        "widgets/text.py",
        "super()._change(token=-1, **values)",
        "super()._change(**values)",
        "test_widgets_strip.py::test_the_strip_follows_what_is_chosen",
    ),
    in_python(  # an untrained map is as red as a trained one
        "widgets/picture.py",
        'style = {"most": top,',
        'style = {"most": None,',
        "test_widgets_explorer.py::test_two_vits_read_the_same_picture",
    ),
    in_python(  # a race of 60 steps against 15
        "widgets/fine_tuning.py",
        '"steps": self.planned}',
        '"steps": self.steps}',
        "test_widgets_classes.py::test_steps_that_are_changed_meanwhile_are_those_of_the_next_training",
    ),
    # --- drawn: texts
    in_text_views(  # the explorer draws the transposed map
        "widgets/attention_explorer.js",
        "shades[Math.round((255 * weightAt(at)) / most)]",
        "shades[Math.round((255 * weightAt((at % side) * side + Math.floor(at / side))) / most)]",
        "the_explorers_matrix[1x]",
    ),
    in_text_views(  # and tells it
        "widgets/attention_explorer.js",
        "weightAt(cell(from) * side + cell(to))",
        "weightAt(cell(to) * side + cell(from))",
        "the_explorers_matrix[1x]",
    ),
    in_text_views(
        "widgets/attention_explorer.js",
        "pins: { query: cell[0], key: cell[1] }",
        "pins: { query: cell[1], key: cell[0] }",
        "the_explorers_matrix[1x]",
    ),
    in_text_views(
        "widgets/attention_explorer.js",
        "drawLine(pen, width, start, end, map.weight(start, end), usual);",
        "drawLine(pen, width, start, end, map.weight(end, start), usual);",
        "the_explorers_lines[1x]",
    ),
    in_text_views(  # heads and layers change places
        "widgets/attention_explorer.js",
        "byteOffset + (layer * heads + head) * side * side",
        "byteOffset + (head * layers + layer) * side * side",
        "the_explorers_small_maps[1x]",
    ),
    in_text_views(  # the edge with the numbers is forgotten
        "widgets/parts.js",
        "box: () => [edge, edge,",
        "box: () => [0, 0,",
        "the_explorers_small_maps[1x]",
    ),
    in_text_views(  # sharp screens: all is drawn at half its size
        "widgets/drawing.js",
        "pen.scale(scale, scale);",
        "pen.scale(1, 1);",
        "the_explorers_matrix[2x]",
    ),
    in_text_views(  # the tick stands where the bar ends
        "widgets/parts.js",
        "style: `left: ${99 * before}%`",
        "style: `left: ${99 * share}%`",
        "the_explorers_numbers[1x]",
    ),
    in_text_views(  # who looks at whom, transposed
        "widgets/next_sentence.js",
        "row.slice(3 * who, 3 * who + 3)",
        "[row[who], row[who + 3], row[who + 6]]",
        "next_sentence[1x-front]",
    ),
    in_text_views(
        "widgets/sentence_pair.js",
        "row.map((weight, j) => ({ weight, from: from[i], to: to[j] })),",
        "row.map((weight, j) => ({ weight, from: to[j], to: from[i] })),",
        "sentence_pair[1x-hypothesis]",
    ),
    in_text_views(  # end bars show the probabilities of starts
        "widgets/span_extraction.js",
        'element("i.end", height(ends[at])),',
        'element("i.end", height(starts[at])),',
        "span_extraction[1x]",
    ),
    in_text_views(
        "widgets/span_extraction.js",
        "pen.fillRect(start * size, end * size, side, side);",
        "pen.fillRect(end * size, start * size, side, side);",
        "span_extraction[1x]",
    ),
    in_text_views(
        "widgets/span_extraction.js",
        "cell = to;",
        "cell = to && [to[1], to[0]];",
        "span_extraction[1x]",
    ),
    in_text_views(  # always the first mask's attention
        "widgets/masked_filling.js",
        'readFloat16(get("weights"), get("words").length)[card] ?? [];',
        'readFloat16(get("weights"), get("words").length)[0] ?? [];',
        "masked_filling[1x]",
    ),
    in_python(  # whichever row is pointed at
        "widgets/strip.js",
        "weight ${fixed(W[at][column], 3)}",
        "weight ${fixed(W[chosen()][column], 3)}",
        "browser/test_drawn_strip.py::test_head_of_classes[1x]",
    ),
    in_python(  # and whichever head
        "widgets/strip.js",
        "percent(heads[head][token])",
        "percent(heads.at(-1)[token])",
        "browser/test_drawn_strip.py::test_layer[1x]",
    ),
    in_python(  # what comes out of a layer, as if it went in
        "widgets/strip.py",
        "found = fetched_vectors(self.model, way.states[depth - 1], depth - 1,",
        "found = fetched_vectors(self.model, way.states[depth], depth - 1,",
        "test_widgets_strip.py::test_what_is_fetched_is_what_attention_gives",
    ),
    in_text_views(
        "widgets/sentence_classifier.js",
        "drawWords(leftOut, lost, write,",
        "drawWords(leftOut, relevance, write,",
        "sentence_classifier[1x]",
    ),
    in_text_views(
        "widgets/fine_tuning.js",
        "const cell = [run, labels[truth], labels[said]];",
        "const cell = [run, labels[said], labels[truth]];",
        "fine_tuning[1x]",
    ),
    in_python(  # numbers below zero
        "widgets/shared.js",
        "numbers[at] = bits >> 15 ? -size : size;",
        "numbers[at] = size;",
        "browser/test_drawn_strip.py::test_embeddings[1x]",
    ),
    # --- drawn: pictures
    in_text_views(
        "widgets/attention_explorer.js",
        "${fixed(scaled, 2)}",
        "${fixed(score, 2)}",
        "the_explorers_numbers[1x]",
    ),
    in_text_views(  # the class of the first piece at all of them
        "widgets/token_tagger.js",
        '${index ? "would be" : "is"} ${label}',
        '${index ? "would be" : "is"} ${get("pieces")[0][1]}',
        "token_tagger[1x]",
    ),
    in_picture_views(
        "widgets/patch_splitter.js",
        "`${columns * size} × ${rows * size} pixels: `",
        "`${rows * size} × ${columns * size} pixels: `",
        "patch_splitter[1x]",
    ),
    in_picture_views(  # a click on a patch is off by one column
        "widgets/drawing.js",
        "const column = Math.floor(((offsetX - left) / width) * columns);",
        "const column = Math.ceil(((offsetX - left) / width) * columns);",
        "patch_attention[1x]",
    ),
    in_picture_views(  # other dots hide the marked one
        "widgets/patch_attention.js",
        "dots.sort((one, other) => one[3] - other[3])",
        "dots",
        "patch_attention[1x]",
    ),
    in_picture_views(
        "widgets/picture.js",
        "return [(patch % columns) * w, Math.floor(patch / columns) * h, w, h];",
        "return [(patch % rows) * w, Math.floor(patch / rows) * h, w, h];",
        "patch_hiding[1x]",
    ),
    in_picture_views(  # one token before the patches, however many there are
        "widgets/picture.js",
        'click: (patch) => choose(patch + get("prefix")),',
        "click: (patch) => choose(patch + 1),",
        "the_explorer_on_patches[1x]",
    ),
    in_picture_views(  # a fast stroke misses what lies between rows
        "widgets/picture.js",
        "for (const axis of [0, 1]) {",
        "for (const axis of [1]) {",
        "a_fast_stroke_hides_all_that_it_crossed[1x]",
    ),
    in_picture_views(  # an older picture wins if it takes longer
        "widgets/picture.js",
        "if (mine !== newest) return;",
        "",
        "a_newer_picture_wins_over_one_that_takes_longer[1x-hiding]",
    ),
    in_picture_views(  # the map hides the picture where there is no weight
        "widgets/picture.js",
        "[255, 255 * (1 - share), 0, 255 * opacity * share]",
        "[255, 255 * (1 - share), 0, 255 * opacity]",
        "patch_attention[1x]",
    ),
    in_picture_views(  # the first map for both classes
        "widgets/picture.js",
        'get("large").getUint8(which * size[0] * size[1] + patch) / 255) ** 2;',
        'get("large").getUint8(patch) / 255) ** 2;',
        "patch_attention_for_two_classes[1x]",
    ),
    in_picture_views(  # where a patch went, not which one came
        "widgets/patch_hiding.js",
        'const patchAt = (place) => get("order")[place] ?? place;',
        'const patchAt = (place) => get("order").indexOf(place);',
        "patch_hiding[1x]",
    ),
    in_picture_views(
        "widgets/patch_splitter.js",
        "send({ patch: token - 1 })",
        "send({ patch: token })",
        "patch_splitter[1x]",
    ),
    in_picture_views(  # the weakest patches are hidden
        "widgets/map_test.js",
        "for (const patch of order.slice(0, Math.round(share * order.length)))",
        "for (const patch of order.slice(-Math.round(share * order.length)))",
        "patch_attention_for_two_classes[1x]",
    ),
]


def main(parts: Iterable[str]) -> int:
    """Tries the faults whose path or line has one of these parts; 1 if not all were noticed."""
    for library in ("accelerate", "anywidget", "datasets", "matplotlib.figure", "torch", "transformers"):
        importlib.import_module(library)
    faults = [fault for fault in FAULTS if any(part in str(fault) for part in parts or [""])]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("workbench", "tests", "notebooks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(ROOT / "pyproject.toml", copy / "pyproject.toml")
        (copy / "data").symlink_to(ROOT / "data")
        print(f"{len(faults)} faults. First without any: ", end="", flush=True)
        if run(copy, dict.fromkeys(test for fault in faults for test in fault.tests)):
            print("some of the tests fail already, so they can notice nothing.")
            return 1
        print("all tests pass.")
        return int(sum([try_one(copy, fault) for fault in faults]) < len(faults))


def try_one(copy: Path, fault: Fault) -> bool:
    """Whether a test noticed; prints that."""
    started = time.monotonic()
    if not fault.applies(copy):
        said = "CANNOT BE TRIED: its line is no longer there once"
    else:
        whole = (copy / fault.path).read_text(encoding="utf-8")
        (copy / fault.path).write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
        said = {0: "SURVIVED", 1: "noticed"}.get(run(copy, fault.tests), "CANNOT BE TRIED: no tests")
        (copy / fault.path).write_text(whole, encoding="utf-8")
    print(f"{said} ({time.monotonic() - started:.0f} s): {fault}", flush=True)
    return said == "noticed"


def run(copy: Path, tests: Iterable[str]) -> int | None:
    """What pytest says about these tests in the copy: 0 all pass, 1 one fails."""
    process = FORK.Process(target=_pytest, args=(copy, tests))
    process.start()
    process.join()
    return process.exitcode


def _pytest(copy: Path, tests: Iterable[str]) -> None:
    """Ends this process with pytest's answer; nothing of the package may be imported before."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    os.chdir(copy)
    sys.path[0] = os.environ["PYTHONPATH"] = str(copy)
    # Written back within the same second, a file looks as if its compiled form were still right.
    sys.dont_write_bytecode = True
    os._exit(pytest.main(["-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
