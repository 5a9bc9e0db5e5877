// SentencePair: two texts, the bars of their classes, and lines between words that look at each other. See
// sentence_pair.py for the traits.

import { curvedLine, penOf } from "./drawing.js";
import { button, chips, columns, hiddenClasses, note, part, row, viewOf } from "./parts.js";
import { element, isolated, percent, readFloat16 } from "./shared.js";
import { stripOf } from "./strip.js";

const SIDES = ["premise", "hypothesis"];
const MOST_LINES = 150;
const HELP =
  "Point at a word to see its lines only, click to pin it. What is missing to 100\u00a0% goes to the " +
  "word's own sentence, [CLS] and [SEP].";

function render({ model, el }) {
  const view = viewOf(model, el, "sentence-pair");
  const { get, set, message, ink, drawn } = view;
  let hovered = -1; // the word under the mouse or with the focus: its lines are previewed

  // --- the texts and the answer; other heads may be asked anything about two texts
  const isUsual = get("head") === "nli";
  const [first, second] = isUsual ? SIDES : ["first text", "second text"];
  const fields = [
    view.textField("premise", isUsual ? "Premise: what is known" : "First text", "first"),
    view.textField("hypothesis", isUsual ? "Hypothesis: what is claimed" : "Second text", "second"),
  ];
  for (const { area } of fields) {
    // Ticks stay at the answer before the first key, until the field is left.
    area.onfocus = () => set({ editing: true });
    area.onblur = () => set({ editing: false });
  }
  const answer = view.live("div.part.classes", { role: "status", "aria-label": "The answer" }, () => {
    const [classes, problemType] = [get("classes"), get("problem_type")];
    const single = problemType.startsWith("single");
    const best = (column) => classes.reduce((a, b) => (b[column] > a[column] ? b : a))[0];
    const differs = ([, now, before]) => Math.abs(now - before) > 0.0005;
    const more = (one) => ({
      before: differs(one) ? one[2] : null,
      kind: single && one[0] === best(1) ? "best" : "",
    });
    const flipped = single && best(1) !== best(2) ? `It flipped: from ${best(2)} to ${best(1)}. ` : "";
    const ticks = problemType !== "regression" && classes.some(differs);
    const ended = note(ticks && `${flipped}The ticks show the bars before the edit.`);
    return [...view.bars(classes, "it was", more), ended, note(hiddenClasses(view))];
  });

  // --- the words and their lines
  const rows = [first, second].map((name, side) => {
    const label = `Words of the ${name}: Enter pins the lines of a word, arrow keys move`;
    const words = chips(
      label,
      (at) => pin(wordsOf(side)[at].index),
      (at) => point(wordsOf(side)[at]),
    );
    words.node.onscroll = drawLines;
    return words;
  });
  const lines = element("canvas.overlay", { "aria-hidden": "true" });
  const says = element("p.note", { role: "status" });
  const edit = button("Edit this word", editWord);
  const swap = button("Swap", () => message({ do: "swap" }));
  const ways = { hypothesis: `${second} looks at ${first}`, premise: `${first} looks at ${second}` };
  const linked = part(
    "Which word looks at which?",
    row(view.choice("direction", "Whose attention", ways), view.attentionOf("Attention: layer"), edit),
    element("div.overlaid.linked", ...rows.map((words) => words.node), lines),
    says,
  );
  view.content.append(
    ...stripOf(view),
    columns("1fr 1fr", ...fields.map((field) => field.node)),
    row(
      isUsual && view.exampleMenu("Pick a pair …"),
      swap,
      view.looks.toggle("lines", "Which word looks at which?"),
    ),
    view.remark(),
    answer,
    linked,
  );

  // The words of one side, with their numbers in `words` and their buttons.
  function wordsOf(side) {
    const all = get("words").map((word, index) => ({ ...word, index }));
    const own = all.filter((word) => word.segment === side && !word.special);
    return own.map((word, at) => ({ ...word, chip: rows[side].node.children[at] }));
  }

  const pin = (index) => set({ pinned: get("pinned") === index ? -1 : index });

  function point(word) {
    hovered = word?.index ?? -1;
    drawLines();
  }

  // Puts the cursor on the pinned word in its field.
  function editWord() {
    const side = get("words")[get("pinned")].segment;
    const { area } = fields[side];
    let end = 0;
    for (const { text, index } of wordsOf(side)) {
      const start = area.value.indexOf(text, end);
      end = start + text.length;
      if (index !== get("pinned")) continue;
      area.focus();
      area.setSelectionRange(start, end);
    }
  }

  // --- drawing
  // Who looks at whom and how much, the strongest first; of one word only, if one is shown.
  function linksOf(shown) {
    const looking = SIDES.indexOf(get("direction"));
    const [from, to] = [wordsOf(looking), wordsOf(1 - looking)];
    const links = readFloat16(get("weights"), to.length).flatMap((row, i) =>
      row.map((weight, j) => ({ weight, from: from[i], to: to[j] })),
    );
    const own = links.filter((link) => [link.from.index, link.to.index].includes(shown));
    return (shown < 0 ? links : own).sort((a, b) => b.weight - a.weight);
  }

  function drawLines() {
    const shown = hovered >= 0 ? hovered : get("pinned");
    const links = linksOf(shown);
    const strongest = links[0]?.weight || 1e-9;
    const pen = penOf(lines);
    pen.strokeStyle = ink("--accent-ink");
    for (const { node } of rows) for (const chip of node.children) chip.style.setProperty("--shade", "0%");
    for (const { weight, from, to } of links.slice(0, MOST_LINES).reverse()) {
      const share = weight / strongest;
      if (share < 0.05) continue;
      drawLine(pen, share, from, to);
      const other = from.index === shown ? to : from;
      if (shown >= 0) other.chip.style.setProperty("--shade", `${Math.round(60 * share)}%`);
    }
    const named = ({ weight, from, to }) =>
      `${isolated(from.text)} → ${isolated(to.text)} ${percent(weight)}`;
    const which = shown >= 0 ? "The strongest lines of this word" : "The strongest lines";
    says.textContent = `${which}: ${links.slice(0, 3).map(named).join(" · ")}. ${HELP}`;
  }

  // A curve from the edge of one word to that of the other, between the two rows.
  function drawLine(pen, share, from, to) {
    const area = lines.getBoundingClientRect();
    const [start, end] = [from, to].map(({ chip, segment }) => {
      const { left, width, top, bottom } = chip.getBoundingClientRect();
      return [left + width / 2 - area.left, (segment ? top : bottom) - area.top];
    });
    const middle = (start[1] + end[1]) / 2;
    curvedLine(pen, share, start, [start[0], middle], [end[0], middle], end);
  }

  drawn(() => {
    linked.hidden = !get("lines");
    if (linked.hidden) return;
    edit.disabled = get("pinned") < 0;
    for (const [side, words] of rows.entries()) {
      const item = ({ text, index }) => {
        const pressed = index === get("pinned");
        return { text, kind: `${["first", "second"][side]} ${pressed ? "pinned" : ""}`, pressed };
      };
      words.draw(wordsOf(side).map(item));
    }
    if (hovered >= get("words").length) hovered = -1;
    drawLines();
  });
  return view.show({ traits: ["pinned", "lines"] });
}

export default { render };
