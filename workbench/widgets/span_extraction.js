// SpanExtraction: a passage with its start and end bars, the best answers or none, the map of starts and
// ends, and the two trained vectors. See span_extraction.py for the traits.

import {
  bar,
  button,
  exampleMenu,
  inkOf,
  note,
  numberField,
  outline,
  part,
  penOf,
  refill,
  reuse,
  roving,
  signedPixels,
  slider,
  textField,
} from "./parts.js";
import { element, fixed, frame, percent, range, readFloat16, within } from "./shared.js";

// The text of tokens from first to last; further pieces of one character have none of their own.
function textOf(tokens, first, last) {
  const texts = tokens.slice(first, last + 1).map(([gap, text], at) => (at ? gap : "") + text);
  return texts.join("") || textOf(tokens, first - 1, last);
}

// --- the passage: a button for each word piece, with a bar for start and one for end under it

function passageOf({ get, send }) {
  const [before, pieces, after] = [element("span.outside"), element("span"), element("span.outside")];
  const label = "The passage. Enter shows a word's vector, arrow keys move.";
  const options = { role: "group", "aria-label": label, dir: "auto" };
  const node = element("div.passage", options, before, pieces, after);
  const settle = roving(node);
  let seen = ""; // what was last brought into view

  pieces.addEventListener("click", (event) => {
    const piece = event.target.closest("button");
    if (piece) send({ chosen: [...pieces.children].indexOf(piece.parentElement) });
  });

  const make = () => {
    const bars = [element("i.start"), element("i.end")];
    return element("span", "", element("button", { type: "button" }, element("span"), ...bars));
  };

  function drawPieces() {
    const { tokens, answer, chosen, answered } = get("view");
    const [starts, ends] = readFloat16(get("bars"), tokens.length);
    const strongest = Math.max(...starts, ...ends, 1e-9);
    const height = (share) => `${Math.round((20 * share) / strongest)}px`;
    reuse(pieces, tokens, make, (place, [gap, text], at) => {
      const piece = place.lastChild;
      const [word, start, end] = piece.children;
      place.firstChild.data = gap.replace(/\n\s*\n/, "\n"); // lines are far apart as it is
      piece.className = "piece";
      piece.classList.toggle("answer", answered && at >= answer[0] && at <= answer[1]);
      piece.classList.toggle("chosen", at === chosen);
      piece.title = `${textOf(tokens, at, at)}: start ${percent(starts[at])}, end ${percent(ends[at])}`;
      word.textContent = text;
      start.style.height = height(starts[at]);
      end.style.height = height(ends[at]);
    });
    settle();
  }

  // Brings the answer into view, without moving the page.
  function scroll() {
    const { answer, before: left, window: number } = get("view");
    const now = [number, answer, left.length].join();
    if (now === seen) return;
    seen = now;
    const first = pieces.children[answer[0]];
    if (first) node.scrollTop += first.getBoundingClientRect().top - node.getBoundingClientRect().top - 60;
  }

  const draw = () => {
    before.textContent = get("view").before;
    after.textContent = get("view").after;
    drawPieces();
    scroll();
  };
  return { node, draw };
}

// Which of the windows is shown, if the passage is read in several.
function windowsOf({ get, send }) {
  const node = element("p.note.group");
  const draw = () => {
    const { window: number, windows } = get("view");
    const told =
      `The passage is read in ${windows} overlapping windows; window ${number + 1} is shown, ` +
      "the rest is grey. ";
    const previous = button("Previous", () => send({ window: Math.max(0, number - 1) }));
    const next = button("Next", () => send({ window: Math.min(windows - 1, number + 1) }));
    refill(node, windows > 1 ? [told, previous, next] : []);
  };
  return { node, draw };
}

// --- the answers, or none

function answersOf({ get, send }) {
  const list = element("ol.answers", { "aria-label": "Answers, best first" });
  const count = numberField("How many answers", [1, 20], 5, (value) => send({ top_k: value }));
  const node = part("Best answers", list, element("label.field.note", "show", count, "answers"));
  const draw = () => {
    const rows = get("answers").map(([text, , , probability], at) =>
      bar(text, probability, { click: () => send({ pinned: at }), pressed: at === get("pinned") }),
    );
    refill(
      list,
      rows.map((row) => element("li", row)),
    );
    count.value = get("top_k");
  };
  return { node, draw };
}

function noAnswerOf({ get, send }) {
  const label = "How much an answer must beat no answer by";
  const lead = slider(label, [-12, 12, 0.5], (value) => send({ threshold: value }));
  const [scores, verdict] = [element("p"), element("p")];
  const draw = () => {
    const { answered, best, no_answer, no_answer_probability } = get("view");
    const strong = (value) => element("b", value);
    scores.replaceChildren(
      "Score of the best answer ",
      strong(fixed(best, 2)),
      ", of no answer ",
      strong(fixed(no_answer, 2)),
      ` (${percent(no_answer_probability)}).`,
    );
    verdict.replaceChildren(
      `An answer must win by more than ${fixed(get("threshold"), 2)}; `,
      `it wins by ${fixed(best - no_answer, 2)}: `,
      strong(answered ? "answered" : "no answer"),
    );
    lead.draw(get("threshold"));
  };
  return { node: part("Or no answer", scores, verdict, lead.node), draw };
}

// --- the map: columns are starts, rows are ends; below the diagonal an end comes after its start

function mapOf({ root, get, send }) {
  const label = "Start by end: arrow keys move, Enter chooses the start";
  const canvas = element("canvas.map", { tabindex: 0, role: "img", "aria-label": label });
  const says = element("p.note", { role: "status" });
  const told = note();
  const node = part("Start × end", canvas, says, told);
  const ink = inkOf(root);
  let cell = null; // [start, end] on the map: under the mouse, or where the arrow keys stand
  let size = 1; // of a cell, in pixels

  const bounds = () => get("view").map;
  const count = () => bounds()[1] - bounds()[0];
  const answer = () => {
    const { answer: span } = get("view");
    return span.length ? span.map((at) => at - bounds()[0]) : null;
  };
  const probabilities = () => readFloat16(get("joint"), get("longest")); // by start and length

  // --- drawing
  function drawCells() {
    const rows = probabilities();
    const strongest = Math.max(...rows.map((row) => Math.max(...row)), 1e-9);
    const pen = penOf(canvas, size * count(), size * count());
    const [back, accent, impossible] = ["--back", "--accent", "--special-soft"].map(ink);
    const side = size > 5 ? size - 1 : size;
    const fill = (start, end, color, opacity) => {
      pen.globalAlpha = opacity;
      pen.fillStyle = color;
      pen.fillRect(start * size, end * size, side, side);
    };
    pen.fillStyle = impossible;
    pen.fillRect(0, 0, size * count(), size * count());
    for (const start of range(count())) {
      for (const [length, probability] of rows[start].slice(0, count() - start).entries()) {
        fill(start, start + length, back, 1);
        fill(start, start + length, accent, Math.sqrt(probability / strongest));
      }
    }
    pen.globalAlpha = 1;
    const mark = ([start, end], color) => outline(pen, [start * size, end * size, size, size], color);
    if (answer()) mark(answer(), ink("--ink"));
    if (cell) mark(cell, ink("--random"));
  }

  // What the cell under the mouse, or of the arrow keys, stands for.
  function said() {
    if (!cell) return "Point at a cell to see its span.";
    const { tokens } = get("view");
    const [start, end] = cell;
    const quoted = (one, other) => `“${textOf(tokens, one + bounds()[0], other + bounds()[0])}”`;
    if (end < start) {
      const back = `From ${quoted(start, start)} back to ${quoted(end, end)}`;
      return `${back}: the end comes before the start, no answer.`;
    }
    const probability = probabilities()[start][end - start];
    if (probability === undefined) return "More word pieces than an answer may have.";
    return `${quoted(start, end)}: ${percent(probability)}`;
  }

  function draw() {
    const room = node.clientWidth - 26;
    if (room <= 0) return;
    size = within(Math.floor(Math.min(room, 380) / count()), 2, 22);
    if (cell?.some((at) => at >= count())) cell = null;
    drawCells();
    says.textContent = said();
    const all = get("view").tokens.length;
    told.textContent =
      "Column: where it starts; row: where it ends. Grey cells are impossible (the end comes before the " +
      `start, or more than ${get("longest")} pieces). The stronger its colour, the more probable a cell ` +
      "(square root)." +
      (count() < all ? ` ${count()} of ${all} word pieces are on the map, around the answer.` : "");
  }

  // --- mouse and keys
  const point = (to) => {
    cell = to?.map((at) => within(at, 0, count() - 1)) ?? null;
    draw();
  };
  const choose = () => cell && send({ chosen: cell[0] + bounds()[0] });
  const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  canvas.addEventListener("mousemove", ({ offsetX, offsetY }) =>
    point([offsetX, offsetY].map((at) => Math.floor(at / size))),
  );
  canvas.addEventListener("mouseleave", () => point(null));
  canvas.addEventListener("click", choose);
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter") choose();
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const [start, end] = cell ?? answer() ?? [0, 0];
    point([start + step[0], end + step[1]]);
  });
  return { node, draw };
}

// --- the two vectors and that of the chosen word: their first numbers, and all of them as colours

function vectorsOf({ get }) {
  const table = element("table");
  const label = { role: "group", tabindex: 0, "aria-label": "Numbers of the vectors" };
  const numbers = element("div.numbers", label, table);
  const told = note();
  const stripes = range(5).map(() => element("canvas"));
  const strips = element("div.strips", {
    role: "img",
    "aria-label": "S, T and E as colours, one cell a number",
  });
  strips.append(...stripes);

  const rowOf = (name, values, sum) =>
    element(
      "tr",
      element("th", { scope: "row" }, name),
      ...values.slice(0, 5).map((value) => element("td", fixed(value, 2))),
      element("td", "…"),
      element("td.sum", sum),
    );

  const draw = () => {
    const { tokens, chosen, dots, bias } = get("view");
    const width = get("vectors").byteLength / 2 / 5;
    const vectors = readFloat16(get("vectors"), width);
    const names = ["S", "E", `T “${textOf(tokens, chosen, chosen)}”`, "S × T", "E × T"];
    const sums = ["", "", "", `S · T = ${fixed(dots[0], 2)}`, `E · T = ${fixed(dots[1], 2)}`];
    table.replaceChildren(...vectors.map((values, at) => rowOf(names[at], values, sums[at])));
    told.textContent =
      `The first few of ${width} numbers each; multiplied one by one and added up they are the dot ` +
      `product. The head adds ${fixed(bias[0], 2)} to every start and ${fixed(bias[1], 2)} to every end, ` +
      `which changes no probability. Below: all ${width}, blue for positive, orange for negative.`;
    for (const [at, values] of vectors.entries()) signedPixels(stripes[at], [values], strips);
  };
  return { node: part("Two trained vectors", numbers, told, strips), draw };
}

// --- the view

function render({ model, el }) {
  const view = frame(model, el, "span-extraction");
  const { get } = view;
  const question = textField(view, "question", "Question", "first");
  const passage = textField(view, "passage", "Passage", "second");
  const edit = button("Edit passage", () => {
    passage.node.hidden = !passage.node.hidden;
    edit.textContent = passage.node.hidden ? "Edit passage" : "Close editor";
    if (!passage.node.hidden) passage.area.focus();
  });
  passage.node.hidden = true;
  const progress = element("progress", { max: 1, value: 0, "aria-label": "Windows read", hidden: true });
  const remark = element("p.remark", { role: "status" });
  const verdict = element("p.verdict", { role: "status" });
  const text = passageOf(view);
  const windows = windowsOf(view);
  const answers = answersOf(view);
  const none = noAnswerOf(view);
  const map = mapOf(view);
  const vectors = vectorsOf(view);

  view.content.append(
    question.node,
    element("div.bar-row", exampleMenu(view, "Pick a passage …"), edit, progress),
    passage.node,
    remark,
    verdict,
    note(
      "Under every word piece two bars: ",
      element("span.swatch.first"),
      "the answer starts here",
      element("span.swatch.second"),
      "it ends here. Click a word to see its vector.",
    ),
    text.node,
    windows.node,
    element("div.columns", element("div", answers.node, map.node), element("div", none.node, vectors.node)),
  );

  function draw() {
    const answer = get("answers")[get("pinned")];
    progress.hidden = true;
    remark.textContent = get("note");
    if (get("view").answered) verdict.replaceChildren("Answer: ", element("b", answer[0]));
    else verdict.textContent = "No answer: the score of [CLS] is not beaten by enough.";
    for (const one of [question, passage, text, windows, answers, none, map, vectors]) one.draw();
  }

  const heard = ({ window: done, windows: count }) => {
    progress.hidden = false;
    progress.max = count;
    progress.value = done;
  };
  // The theme's colours are known when the view is on the page, and so has a width.
  const resized = () => {
    map.draw();
    vectors.draw();
  };
  return view.show(draw, { heard, resized });
}

export default { render };
