// TokenTagger: a text and the class of every word. See token_tagger.py for the traits.

import { chips, classColor, classSwatch, note, told, viewOf } from "./parts.js";
import { element } from "./shared.js";
import { stripOf } from "./strip.js";

function render({ model, el }) {
  const view = viewOf(model, el, "token-tagger");
  const { get, send, drawn, write } = view;

  // --- the sentence
  const swatch = (label) => classSwatch(label, get("labels").length);
  const walk = "The words and their classes. Arrow keys move, Enter shows how a class came about.";
  const words = chips(walk, (pinned) => send({ pinned }), tellWord);
  drawn(() => {
    const labels = get("labels");
    const probable = get("problem_type") !== "regression";
    const pieces = ([first, ...rest]) => element("small.pieces", element("b", first), ` ${rest.join(" ")}`);
    const item = (word, index) => ({
      text: word.text,
      kind: index === get("pinned") ? "pinned" : probable && word.answer < 0.5 ? "unsure" : "",
      pressed: index === get("pinned"),
      title: `${labels[word.label]} ${write(word.answer)}`,
      below: [
        element("small", probable ? labels[word.label] : write(word.answer)),
        word.pieces.length > 1 && pieces(word.pieces),
      ],
      style: `--class: ${classColor(word.label, labels.length)}`,
    });
    words.draw(get("words").map(item));
  });
  const listed = { role: "list", "aria-label": "Classes in this sentence" };
  const legend = view.live("div.legend.bar-row.note", listed, () => {
    const present = [...new Set(get("words").map((word) => word.label))].sort((a, b) => a - b);
    const entry = (label) => [swatch(label), element("b", get("labels")[label]), get("meanings")[label]];
    return present.map((label) => element("span.field", { role: "listitem" }, entry(label)));
  });

  const joined = view.live("p.note.joined", () => {
    const told = get("pieces").map(
      ([piece, label, share], index) => `${piece} ${index ? "would be" : "is"} ${label} (${write(share)})`,
    );
    const one = "is one word piece: its vector T goes through the layer.";
    const more = `is ${told.length} word pieces. The first one speaks for the word: ${told.join(", ")}.`;
    return `“${get("words")[get("pinned")].text}” ${told.length === 1 ? one : more}`;
  });

  const said = told();
  let pointed = -1;
  function tellWord(index) {
    pointed = index;
    const word = get("words")[index];
    said.textContent = word
      ? `“${word.text}”: ${get("labels")[word.label]} with ${write(word.answer)}.`
      : "Point at a word for its probability; click it, and the stages above are about this word.";
  }
  drawn(() => tellWord(pointed));

  view.content.append(
    ...stripOf(view),
    note("Type a sentence: every word gets a class."),
    view.textField("text", "The sentence").node,
    view.remark(),
    view.headMenu(),
    words.node,
    joined,
    said,
    legend,
  );
  return view.show();
}

export default { render };
