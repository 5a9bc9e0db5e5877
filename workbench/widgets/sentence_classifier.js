// SentenceClassifier: a text, the bars of its classes, and twice its words with what each did for the chosen
// class. See sentence_classifier.py for the traits.

import { button, chips, columns, hiddenClasses, note, part, row, viewOf } from "./parts.js";
import { counted, element, fixed, percent, readFloat16 } from "./shared.js";
import { stripOf } from "./strip.js";

const RELEVANCE =
  "Share of what reaches [CLS] in favour of this answer: attention times its gradient, through all layers. " +
  "Never below zero.";
const FALLS = {
  true: "by how many points does the probability fall? Blue: it speaks for the class.",
  false: "by how much does the number fall? Blue: it speaks for a larger one.",
};

function render({ model, el }) {
  const view = viewOf(model, el, "sentence-classifier");
  const { root, get, send, message, saved, drawn } = view;
  const probable = () => get("problem_type") !== "regression";
  const compared = () => get("words").some((word) => word.hidden);
  let asked = 0; // a timer: what explains the answer is asked for when typing rests

  // --- the answer
  const label = "Answers, the largest first. Enter asks for the reasons of one.";
  const does = ([name]) => ({
    pressed: name === get("chosen"),
    click: () => send({ target: name === get("target") ? "" : name }),
  });
  const bars = view.live("div", { role: "group", "aria-label": label }, () =>
    view.bars(get("bars"), compared() && "with all words:", does),
  );
  const told = "The tick is the probability with all words in sight.";
  const tick = view.live("p.note", () => [compared() && probable() && told, hiddenClasses(view)]);

  // --- the words behind it
  const walk = "Arrow keys move, Enter hides a word or shows it again.";
  const relevant = chips(`Gradient relevance. ${walk}`, hide, mark);
  const leftOut = chips(`Leave one out. ${walk}`, hide, mark);
  const falls = () => `Each word is hidden once: ${FALLS[probable()]} Orange, dashed: against it.`;
  const said = note();
  const all = button("Show all words", () => send({ hidden: [] }));

  function hide(index) {
    const words = get("words").map((word, at) => (at === index ? { ...word, hidden: !word.hidden } : word));
    send({ hidden: words.filter((word) => word.hidden).map((word) => [word.start, word.end]) });
  }

  // The word under the mouse, in both places.
  function mark(index) {
    for (const { node } of [relevant, leftOut]) {
      for (const [at, chip] of [...node.children].entries()) chip.classList.toggle("near", at === index);
    }
  }

  function drawWords(words, values, write, known) {
    const least = probable() ? 0.01 : 1e-6; // falls of less than a point stay pale
    const strongest = Math.max(...values.map(Math.abs), least);
    const item = (word, index) => {
      if (word.special) return { text: word.text, kind: "special" };
      const value = values[index] ?? 0;
      const number = word.hidden ? "hidden" : known(index) ? write(value) : "…";
      const shade = word.hidden ? 0 : Math.round((46 * Math.abs(value)) / strongest);
      return {
        text: word.text,
        kind: word.hidden ? "off" : number.startsWith("−") ? "against" : "",
        pressed: word.hidden,
        title: word.pieces.length > 1 ? `word pieces: ${word.pieces.join(" ")}` : "",
        below: [element("small", number)],
        style: `--shade: ${shade}%`,
      };
    };
    words.draw(get("words").map(item));
  }

  drawn(() => {
    const words = get("words");
    const [relevance = []] = readFloat16(get("relevance"), words.length);
    const [lost = []] = readFloat16(get("left_out"), words.length);
    const write = probable() ? points : (value) => signed(view.write(value), value);
    const tried = new Set(get("tried"));
    const ready = !get("waiting") || tried.size > 0 || relevance.some((value) => value > 0);
    const free = words.filter((word) => !word.special && !word.hidden).length;
    const some = tried.size < free ? `The ${tried.size} most relevant of ${free} words were tried.` : "";
    all.disabled = !compared();
    drawWords(relevant, relevance, percent, () => ready);
    drawWords(leftOut, lost, write, (index) => tried.has(index));
    said.textContent = get("waiting") ? `${counted(tried.size, "word")} tried …` : some;
    root.dataset.explained = !get("waiting");
    clearTimeout(asked);
    // Asked for in small portions, so that typing never waits for the reasons of an old text.
    if (get("waiting") && !saved()) asked = setTimeout(() => message({ do: "explain" }), ready ? 0 : 250);
  });

  const chosen = () => element("b", `“${get("chosen")}”`);
  const hint = "? Click a word to hide it from the model.";
  const asks = view.live("p", () => ["Which words spoke for ", chosen(), hint]);
  const reasons = columns(
    "1fr 1fr",
    part("Gradient relevance", note(RELEVANCE), relevant.node),
    part("Leave one out", view.live("p.note", falls), leftOut.node, said),
  );
  view.content.append(
    ...stripOf(view),
    note("Type a sentence. Click an answer to see the words behind it."),
    view.textField("text", "The sentence").node,
    view.remark(),
    row(view.headMenu(), all),
    columns("minmax(210px, 270px) 1fr", part("Answer", bars, tick), element("div.reasons", asks, reasons)),
  );
  return view.show({ end: () => clearTimeout(asked) });
}

const signed = (text, value) => (value > 0 ? `+${text}` : text);

// A fall of the probability in percentage points, with a sign that does not need the colour.
function points(value) {
  const rounded = Math.round(1000 * value) / 10;
  return rounded ? signed(fixed(rounded, 1), rounded) : "0";
}

export default { render };
