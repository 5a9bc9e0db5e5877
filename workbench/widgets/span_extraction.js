// SpanExtraction: a passage with its start and end bars, the best answers or none, the map of starts and
// ends. See span_extraction.py for the traits.

import { cellCanvas, outline, penOf, writeAxes } from "./drawing.js";
import { bar, button, columns, note, part, progressBar, roving, row, turns, viewOf } from "./parts.js";
import { element, fixed, isolated, percent, range, readFloat16, within } from "./shared.js";
import { stripOf } from "./strip.js";

const strong = (value) => element("b", value);

// The text of tokens from first to last; further pieces of one character have none of their own.
function textOf(tokens, first, last) {
  const texts = tokens.slice(first, last + 1).map(([gap, text], at) => (at ? gap : "") + text);
  return texts.join("") || textOf(tokens, first - 1, last);
}

// --- the passage: a button for each word piece, with a bar for start and one for end under it

function passageOf(view) {
  const { get, send, drawn } = view;
  let seen = ""; // what was last brought into view

  const pieces = view.live("span", () => {
    const { tokens, answer, chosen, answered } = get("view");
    const [starts, ends] = readFloat16(get("bars"), tokens.length);
    const height = (share) => ({ style: `height: ${(20 * share).toFixed(1)}px` });
    const words = []; // pieces without a gap: no line ends between them
    for (const [at, [gap, text]] of tokens.entries()) {
      const inside = answered && at >= answer[0] && at <= answer[1];
      const shares = `start ${percent(starts[at])}, end ${percent(ends[at])}`;
      const title = `${isolated(textOf(tokens, at, at))}: ${shares}`;
      const piece = element(
        `button.piece${inside ? ".answer" : ""}${at === chosen ? ".chosen" : ""}`,
        { title, onclick: () => send({ chosen: at }) },
        element("span", text),
        element("i.start", height(starts[at])),
        element("i.end", height(ends[at])),
      );
      if (gap || !words.length) words.push(gap.replace(/\n\s*\n/, "\n"), element("span.whole"));
      words.at(-1).append(piece); // lines are far apart as it is
    }
    return words;
  });
  const label = "The passage. Enter chooses a word for the strip, arrow keys move.";
  const node = element(
    "div.passage.scroll",
    { role: "group", "aria-label": label, dir: "auto" },
    view.live("span.outside", () => get("view").before),
    pieces,
    view.live("span.outside", () => get("view").after),
  );
  drawn(roving(node));

  // Brings the answer into view, without moving the page.
  drawn(() => {
    const { answer, before: left, window: number } = get("view");
    const now = [number, answer, left.length].join();
    if (now === seen) return;
    seen = now;
    const first = pieces.querySelectorAll("button")[answer[0]];
    if (first) node.scrollTop += first.getBoundingClientRect().top - node.getBoundingClientRect().top - 60;
  });
  return node;
}

// Which of the windows is shown, if the passage is read in several.
const windowsOf = (view) =>
  view.live("p.note.group", () => {
    const { window: number, windows } = view.get("view");
    if (windows < 2) return null;
    return [
      `The passage is read in ${windows} overlapping windows; window ${number + 1} is shown, `,
      "the rest is grey. ",
      ...turns(number > 0 && number - 1, number + 1 < windows && number + 1, (window) =>
        view.send({ window }),
      ),
    ];
  });

// --- the answers, or none

function answersOf(view) {
  const { get, send } = view;
  const list = view.live("ol.answers", { "aria-label": "Answers, best first" }, () =>
    get("answers").map(([text, , , probability], at) => {
      const options = { click: () => send({ pinned: at }), pressed: at === get("pinned") };
      return element("li", bar(text, probability, options));
    }),
  );
  return part(
    "Best answers",
    list,
    view.numberField("top_k", "How many answers", [1, 20], "show", "answers"),
  );
}

function noAnswerOf(view) {
  const { get } = view;
  const scores = view.live("p", () => {
    const { best, no_answer, no_answer_probability } = get("view");
    const scores = ["Score of the best answer ", strong(fixed(best, 2)), ", of no answer "];
    return [scores, strong(fixed(no_answer, 2)), ` (${percent(no_answer_probability)}).`];
  });
  const verdict = view.live("p", () => {
    const { answered, best, no_answer } = get("view");
    const lead = `it ${best < no_answer ? "loses" : "wins"} by ${fixed(Math.abs(best - no_answer), 2)}: `;
    const must = `An answer must win by more than ${fixed(get("threshold"), 2)}; `;
    return [must, lead, strong(answered ? "answered" : "no answer")];
  });
  const label = "How much an answer must beat no answer by";
  return part("Or no answer", scores, verdict, view.slider("threshold", label, [-12, 12, 0.5]));
}

// --- the map: columns are starts, rows are ends; below the diagonal an end comes after its start

const EDGE = 84; // pixels for the words on the axes

function mapOf({ get, send, ink, drawn }) {
  const says = element("p.note", { role: "status" });
  const told = note();
  let cell = null; // [end, start] on the map: under the mouse, or where the arrow keys stand
  let size = 1; // of a cell, in pixels

  const bounds = () => get("view").map;
  const count = () => bounds()[1] - bounds()[0];
  const answer = () => {
    const [start, end] = get("view").answer.map((at) => at - bounds()[0]);
    return start === undefined ? null : [end, start];
  };
  const probabilities = () => readFloat16(get("joint"), get("longest")); // by start and length
  const { canvas, setCursor } = cellCanvas("map", "Start by end: arrow keys move, Enter chooses the start", {
    shape: () => [count(), count()],
    box: () => [EDGE, EDGE, size * count(), size * count()],
    point: (to) => {
      cell = to;
      draw();
    },
    click: ([, start]) => send({ chosen: start + bounds()[0] }),
  });
  const node = part("Start × end", columns("auto 1fr", canvas, element("div", says, told)));

  function drawCells() {
    const rows = probabilities();
    const strongest = Math.max(...rows.map((row) => Math.max(...row)), 1e-9);
    const pen = penOf(canvas, EDGE + size * count(), EDGE + size * count());
    const word = (at) => textOf(get("view").tokens, at + bounds()[0], at + bounds()[0]);
    pen.fillStyle = ink("--muted");
    pen.textAlign = "right";
    pen.fillText("start →", EDGE - 6, EDGE - 20);
    pen.fillText("end ↓", EDGE - 6, EDGE - 6);
    writeAxes(pen, range(count()).map(word), EDGE, size, ink("--ink"));
    pen.translate(EDGE, EDGE);
    const [back, accent, impossible] = ["--back", "--accent", "--special-soft"].map(ink);
    const side = size - 1;
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
    const mark = ([end, start], color) => outline(pen, [start * size, end * size, size, size], ink(color));
    if (answer()) mark(answer(), "--ink");
    if (cell) mark(cell, "--random");
  }

  // What the cell under the mouse, or of the arrow keys, stands for.
  function said() {
    if (!cell) return "Point at a cell to see its span.";
    const { tokens } = get("view");
    const [end, start] = cell;
    const quoted = (one, other) => `“${isolated(textOf(tokens, one + bounds()[0], other + bounds()[0]))}”`;
    if (end < start) {
      const back = `From ${quoted(start, start)} back to ${quoted(end, end)}`;
      return `${back}: the end comes before the start, no answer.`;
    }
    const probability = probabilities()[start][end - start];
    if (probability === undefined) return "More word pieces than an answer may have.";
    return `${quoted(start, end)}: ${percent(probability)}`;
  }

  function draw() {
    node.hidden = !get("start_by_end");
    const room = node.clientWidth - 26;
    if (room <= 0) return;
    size = within(Math.floor((Math.min(room, 480) - EDGE) / count()), 8, 22);
    if (cell?.some((at) => at >= count())) cell = null;
    if (!cell) setCursor(answer() ?? [0, 0]);
    drawCells();
    says.textContent = said();
    const all = get("view").tokens.length;
    const mapped = percent(get("view").mapped);
    const some = ` On the map are ${count()} of ${all} word pieces, and ${mapped} of what is probable.`;
    told.textContent =
      "Grey cells are impossible (the end comes before the start, or more than " +
      `${get("longest")} pieces). The stronger its colour, the more probable a cell (square root).` +
      (count() < all ? some : "");
  }
  drawn(draw);
  return node;
}

// --- the view

function render({ model, el }) {
  const view = viewOf(model, el, "span-extraction");
  const { get, drawn } = view;
  const passage = view.textField("passage", "Passage", "second");
  const edit = button("Edit passage", () => {
    passage.node.hidden = !passage.node.hidden;
    edit.textContent = passage.node.hidden ? "Edit passage" : "Close editor";
    if (!passage.node.hidden) passage.area.focus();
  });
  passage.node.hidden = true;
  const progress = progressBar("Windows read");
  drawn(() => {
    progress.hidden = true;
  });
  view.content.append(
    ...stripOf(view),
    view.textField("question", "Question", "first").node,
    row(
      view.exampleMenu("Pick a passage …"),
      edit,
      view.looks.toggle("start_by_end", "Start × end"),
      progress,
    ),
    passage.node,
    view.remark(),
    view.live("p.verdict", { role: "status" }, () =>
      get("view").answered
        ? ["Answer: ", strong(get("answers")[get("pinned")][0])]
        : "No answer: the score of [CLS] is not beaten by enough.",
    ),
    note(
      "Bars under the words, 0 to 100 %: ",
      element("span.swatch.first"),
      "the answer starts here",
      element("span.swatch.second"),
      "it ends here. Click a word, and the strip tells of it.",
    ),
    passageOf(view),
    windowsOf(view),
    columns("3fr 2fr", answersOf(view), noAnswerOf(view)),
    mapOf(view),
  );

  const heard = ({ window: done, windows: count }) => {
    progress.hidden = false;
    progress.max = count;
    progress.value = done;
  };
  return view.show({ traits: ["start_by_end"], heard });
}

export default { render };
