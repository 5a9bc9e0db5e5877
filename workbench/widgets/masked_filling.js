// MaskedFilling: a sentence whose words a click masks, the guesses for each mask, and the best guess after
// every layer. See masked_filling.py for the traits.

import {
  attentionOf,
  bar,
  button,
  chips,
  choice,
  inkOf,
  layerList,
  note,
  numberField,
  penOf,
  textField,
} from "./parts.js";
import { element, frame, percent, readFloat16 } from "./shared.js";

function render({ model, el }) {
  const view = frame(model, el, "masked-filling");
  const { content, root, get, set, send, message, show } = view;
  let editing = false;
  let filled = {}; // word number -> a candidate shown in its place: pinned by click
  let preview = []; // the same while mouse or focus are on a candidate: [word number, candidate]

  // --- the sentence
  const walk = "The sentence. Enter masks a word or brings it back, arrow keys move.";
  const words = chips(walk, toggle, (index) => {
    const row = get("guesses").cards.findIndex((guess) => guess.word === index);
    shade(row < 0 ? pinned() : row);
  });
  words.node.addEventListener("scroll", () => shade()); // lines end where the words are now
  const links = element("canvas.links", { "aria-hidden": true });
  const text = textField(view, "text", "The sentence");
  const edit = button("Edit text", () => switchEditor(!editing));
  const key = (kind, meaning) => element(`span.key.${kind}`, meaning);
  const legend = element("span.group.note", "chosen to guess:", [
    key("mask", "[MASK]"),
    key("random", "a random word"),
    key("keep", "left as it is"),
  ]);
  const sides = { nothing: "all words", left: "hide left", right: "hide right" };
  const side = choice("Guess from", sides, (hide) => send({ hide }));
  const attention = attentionOf(view, "Attention: layer");
  const lines = button("Lines", () => set({ lines: !get("lines") }));
  const top = numberField("Candidates for each mask", [1, 20], 5, (top_k) => send({ top_k }));

  // --- the guesses
  const cards = element("div.cards");
  const pages = element("p.group.note");
  const layers = layerList(
    "The best guess, layer by layer",
    "Guess after layer",
    (layer) => send({ layer: layer === get("layers") ? -1 : layer }),
    note(
      "Layer 0 is the embeddings, before any attention. Drag: the cards show the guesses after that layer.",
    ),
  );
  const empty = element("p.empty", "Nothing is masked. Click a word, and BERT guesses it from the others.");
  const remark = element("p.remark", { role: "status" });
  const panels = element("div.columns", element("div", cards, pages), layers.node);
  content.append(
    note(
      "Click a word to mask it, click again to bring it back. ",
      "The bluer a word, the more the mask attends to it.",
    ),
    element("div.sentence-box", words.node, links, text.node),
    remark,
    element(
      "div.bar-row",
      element(
        "span.group",
        edit,
        button("Mask 15 % at random", () => message({ do: "mask at random" })),
        button("Unmask all", () => send({ masked: [] })),
      ),
      [element("label.field", "top", top, "guesses"), legend],
    ),
    element("div.bar-row", side.node, element("span.group", attention.node, lines)),
    empty,
    panels,
  );

  // --- what clicks do
  function toggle(index) {
    const { kind, start, end } = get("words")[index];
    const rest = get("masked").filter((span) => span[1] <= start || span[0] >= end);
    delete filled[index];
    if (kind === "typed") return;
    const masked = kind === "word" ? [...rest, [start, end]].sort((a, b) => a[0] - b[0]) : rest;
    send({ masked });
  }

  function switchEditor(on) {
    editing = on;
    if (!on) filled = {};
    draw();
    (on ? text.area : edit).focus();
  }
  text.area.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" && (event.key !== "Enter" || event.shiftKey)) return;
    event.preventDefault();
    switchEditor(false);
  });

  // A candidate in the place of its mask.
  function fill(word, name, card) {
    if (filled[word] === name) delete filled[word];
    else filled[word] = name;
    drawWords();
    for (const other of card.querySelectorAll(".bar")) {
      other.setAttribute("aria-pressed", filled[word] === other.firstChild.textContent);
    }
  }

  // --- drawing the sentence
  const pinned = () => get("pinned") - get("guesses").first; // which of the cards
  const weightsOf = (row) => readFloat16(get("weights"), get("words").length)[row] ?? [];

  function drawWords() {
    const card = get("guesses").cards[pinned()];
    const item = (word, index) => {
      const other = preview[0] === index ? preview[1] : filled[index];
      const replaced = word.kind === "mask" || word.kind === "random";
      const kinds = [word.kind, other && "filled", word.hidden && "hidden", card?.word === index && "pinned"];
      return {
        text: other ?? (replaced ? word.pieces.join("").replaceAll("##", "") : word.text),
        kind: kinds.filter(Boolean).join(" "),
        pressed: word.kind !== "word",
      };
    };
    words.draw(get("words").map(item));
    shade();
  }

  // Attention of the pinned mask, or of the one under the mouse, as shading, and as lines if wanted.
  function shade(row = pinned()) {
    const weights = weightsOf(row);
    const strongest = Math.max(...weights, 1e-9);
    for (const [index, chip] of [...words.node.children].entries()) {
      const share = Math.round((42 * (weights[index] ?? 0)) / strongest);
      chip.style.setProperty("--shade", `${share}%`);
      chip.title = weights.length ? `attention from the mask: ${percent(weights[index])}` : "";
    }
    words.node.classList.toggle("with-lines", get("lines")); // room for them above the words
    const pen = penOf(links);
    const from = get("guesses").cards[row]?.word;
    if (get("lines") && from !== undefined && !editing) drawLines(pen, from, weights, strongest);
  }

  function drawLines(pen, from, weights, strongest) {
    const area = links.getBoundingClientRect();
    const place = (index) => {
      const at = words.node.children[index].getBoundingClientRect();
      return [at.left + at.width / 2 - area.left, at.top + 3 - area.top];
    };
    const [startX, startY] = place(from);
    pen.strokeStyle = inkOf(root)("--accent-ink");
    for (const [index, weight] of weights.entries()) {
      const share = weight / strongest;
      if (index === from || share < 0.03) continue;
      const [x, y] = place(index);
      const height = Math.min(startY, y) - 8 - Math.min(30, Math.abs(startX - x) / 6);
      pen.globalAlpha = 0.15 + 0.75 * share;
      pen.lineWidth = 0.5 + 3.5 * share;
      pen.beginPath();
      pen.moveTo(startX, startY);
      pen.quadraticCurveTo((startX + x) / 2, height, x, y);
      pen.stroke();
    }
  }

  // --- drawing the guesses
  function cardOf({ word, original, rank, probability, candidates }, row) {
    const index = get("guesses").first + row;
    const options = { type: "button", title: "Show this mask's attention and layers" };
    const title = element("button.title", options, element("b", `Mask ${index + 1}`));
    title.addEventListener("click", () => send({ pinned: index }));
    if (original !== null) {
      const place = `rank ${rank.toLocaleString("en")} · ${percent(probability)}`;
      title.append(` was “${original}” `, element("span.note", place));
    }
    const card = element("section.card", { "aria-label": `Guesses for mask ${index + 1}` }, title);
    card.classList.toggle("pinned", row === pinned());
    const look = (on, name) => {
      preview = on ? [word, name] : [];
      drawWords();
    };
    for (const [name, now, before] of candidates) {
      const guess = bar(name, now, {
        before: get("hide") === "nothing" ? null : before,
        told: "with all words:",
        pressed: filled[word] === name,
        click: () => fill(word, name, card),
      });
      guess.classList.toggle("true", name === original);
      for (const kind of ["mouseenter", "focus"]) guess.addEventListener(kind, () => look(true, name));
      for (const kind of ["mouseleave", "blur"]) guess.addEventListener(kind, () => look(false, name));
      card.append(guess);
    }
    return card;
  }

  function drawCards() {
    const { cards: guesses, count, first } = get("guesses");
    const last = first + guesses.length;
    const turn = (to, name) => button(name, () => send({ pinned: to }));
    cards.replaceChildren(...guesses.map(cardOf));
    pages.replaceChildren();
    if (get("hide") !== "nothing" && count)
      pages.append("The tick on a bar is the probability with all words visible. ");
    if (count > guesses.length) pages.append(`Masks ${first + 1} to ${last} of ${count} `);
    if (first > 0) pages.append(turn(first - 1, "previous"));
    if (last < count) pages.append(turn(last, "next"));
  }

  function draw() {
    const { count, layers: rows } = get("guesses");
    const kinds = new Set(get("words").map((word) => word.kind));
    words.node.hidden = editing;
    text.node.hidden = !editing;
    edit.textContent = editing ? "Done" : "Edit text";
    legend.hidden = !kinds.has("random") && !kinds.has("keep");
    empty.hidden = count > 0;
    panels.hidden = count === 0;
    remark.textContent = get("note");
    lines.setAttribute("aria-pressed", get("lines"));
    top.value = get("top_k");
    preview = [];
    text.draw();
    side.draw(get("hide"));
    attention.draw();
    drawWords();
    drawCards();
    layers.draw(rows, get("layer") < 0 ? rows.length - 1 : get("layer"));
  }
  return show(draw, { traits: ["lines"], resized: () => shade() });
}

export default { render };
