// MaskedFilling: a sentence whose words a click masks, and the guesses for each mask.
// See masked_filling.py for the traits.

import { curvedLine, penOf } from "./drawing.js";
import { bar, button, chips, note, row, turns, viewOf } from "./parts.js";
import { element, percent, readFloat16 } from "./shared.js";
import { stripOf } from "./strip.js";

function render({ model, el }) {
  const view = viewOf(model, el, "masked-filling");
  const { get, send, message, ink, drawn, redraw } = view;
  let editing = false;
  let read = get("text"); // what is filled in belongs to it
  let filled = {}; // word number -> a candidate shown in its place: pinned by click
  let preview = []; // the same while mouse or focus are on a candidate: [word number, candidate]

  // --- the sentence
  const walk = "The sentence. Enter masks a word or brings it back, arrow keys move.";
  const words = chips(walk, toggle, (index) => {
    const card = get("guesses").cards.findIndex((guess) => guess.word === index);
    shade(card < 0 ? pinned() : card);
  });
  words.node.onscroll = () => shade(); // lines end where the words are now
  const links = element("canvas.overlay.links", { "aria-hidden": true });
  const text = view.textField("text", "The sentence");
  const edit = button("Edit text", () => switchEditor(!editing));
  const legend = view.live("span.group.note", () => {
    const kinds = new Set(get("words").map((word) => word.kind));
    if (!kinds.has("random") && !kinds.has("keep")) return null;
    const meanings = { mask: "[MASK]", random: "a random word", keep: "left as it is" };
    const keys = Object.entries(meanings).map(([kind, meaning]) => element(`span.key.${kind}`, meaning));
    return ["chosen to guess:", ...keys];
  });
  drawn(() => {
    words.node.hidden = editing;
    text.node.hidden = !editing;
    edit.textContent = editing ? "Done" : "Edit text";
    preview = [];
    filled = Object.fromEntries(Object.entries(filled).filter(stays));
    read = get("text");
    drawWords();
  });

  // Whether this candidate is still one of that mask, or of one that is on another page.
  function stays([index, name]) {
    const card = get("guesses").cards.find((guess) => guess.word === +index);
    const isMask = !["word", "special", undefined].includes(get("words")[index]?.kind);
    return read === get("text") && isMask && (card?.candidates.some(([one]) => one === name) ?? true);
  }

  // --- what clicks do
  function toggle(index) {
    const { kind, start, end } = get("words")[index];
    const rest = get("masked").filter((span) => span[1] <= start || span[0] >= end);
    delete filled[index];
    if (kind === "typed") return redraw();
    const masked = kind === "word" ? [...rest, [start, end]].sort((a, b) => a[0] - b[0]) : rest;
    send({ masked });
  }

  function switchEditor(on) {
    editing = on;
    redraw();
    (on ? text.area : edit).focus();
  }
  text.area.addEventListener("keydown", (event) => {
    const ends = event.key === "Escape" || (event.key === "Enter" && !event.shiftKey);
    if (!ends || event.isComposing) return;
    event.preventDefault();
    switchEditor(false);
  });

  // A candidate in the place of its mask.
  function fill(word, name) {
    if (filled[word] === name) delete filled[word];
    else filled[word] = name;
    redraw();
  }

  // --- drawing the sentence
  const pinned = () => get("pinned") - get("guesses").first; // which of the cards
  const weightsOf = (card) => readFloat16(get("weights"), get("words").length)[card] ?? [];

  function drawWords() {
    const card = get("guesses").cards[pinned()];
    const item = (word, index) => {
      const isMask = !["word", "special"].includes(word.kind);
      const other = isMask && ((preview[0] === index && preview[1]) || filled[index]);
      const replaced = word.kind === "mask" || word.kind === "random";
      const kinds = [word.kind, other && "filled", word.hidden && "hidden", card?.word === index && "pinned"];
      return {
        text: other || (replaced ? word.pieces.join("").replaceAll("##", "") : word.text),
        kind: kinds.filter(Boolean).join(" "),
        pressed: word.kind !== "word",
      };
    };
    words.draw(get("words").map(item));
    shade();
  }

  // Attention of the pinned mask, or of the one under the mouse, as shading, and as lines if wanted.
  function shade(card = pinned()) {
    const weights = weightsOf(card);
    const strongest = Math.max(...weights, 1e-9);
    for (const [index, chip] of [...words.node.children].entries()) {
      const share = Math.round((42 * (weights[index] ?? 0)) / strongest);
      chip.style.setProperty("--shade", `${share}%`);
      chip.title = weights.length ? `attention from the mask: ${percent(weights[index])}` : "";
    }
    words.node.classList.toggle("with-lines", get("lines")); // room for them above the words
    const pen = penOf(links);
    const from = get("guesses").cards[card]?.word;
    if (get("lines") && from !== undefined && !editing) drawLines(pen, from, weights, strongest);
  }

  function drawLines(pen, from, weights, strongest) {
    const area = links.getBoundingClientRect();
    const place = (index) => {
      const at = words.node.children[index].getBoundingClientRect();
      return [at.left + at.width / 2 - area.left, at.top + 3 - area.top];
    };
    const [startX, startY] = place(from);
    pen.strokeStyle = ink("--accent-ink");
    for (const [index, weight] of weights.entries()) {
      const share = weight / strongest;
      if (index === from || share < 0.03) continue;
      const [x, y] = place(index);
      const top = [(startX + x) / 2, Math.min(startY, y) - 8 - Math.min(30, Math.abs(startX - x) / 6)];
      curvedLine(pen, share, [startX, startY], top, top, [x, y]);
    }
  }

  // --- the guesses
  function cardOf({ word, original, rank, probability, candidates }, at) {
    const index = get("guesses").first + at;
    const look = (name) => {
      preview = [word, name];
      drawWords();
    };
    const guess = ([name, now, before]) => {
      const node = bar(name, now, {
        before: get("hide") === "nothing" ? null : before,
        told: "with all words:",
        kind: name === original ? "true" : "",
        pressed: filled[word] === name,
        click: () => fill(word, name),
      });
      node.onmouseenter = node.onfocus = () => look(name);
      node.onmouseleave = node.onblur = () => look(null);
      return node;
    };
    const known = original !== null;
    const place = () => element("span.note", `rank ${rank.toLocaleString("en")} · ${percent(probability)}`);
    const pin = { title: "Show this mask's attention", onclick: () => send({ pinned: index }) };
    return element(
      at === pinned() ? "section.card.now" : "section.card",
      { "aria-label": `Guesses for mask ${index + 1}` },
      element(
        "button.title",
        pin,
        element("span", element("b", `Mask ${index + 1}`), known && ` was “${original}” `),
        known && place(),
      ),
      ...candidates.map(guess),
    );
  }

  const cards = view.live("div.tiles", () => get("guesses").cards.map(cardOf));
  const pages = view.live("p.group.note", () => {
    const { cards: guesses, count, first } = get("guesses");
    if (!count) return null;
    const last = first + guesses.length;
    return [
      get("hide") !== "nothing" && "The tick on a bar is the probability with all words in sight. ",
      count > guesses.length && [
        `Masks ${first + 1} to ${last} of ${count} `,
        ...turns(first > 0 && first - 1, last < count && last, (pinned) => send({ pinned })),
      ],
    ];
  });
  const after = view.live("p.remark", () => {
    const { stage, depth } = get("drawer");
    const early = get("guesses").count && stage === "layer" && depth < get("layers");
    return early ? `These are guesses after layer ${depth}.` : null;
  });
  const nothing = "Nothing is masked. Click a word, and BERT guesses it from the others.";
  const empty = view.live("p.empty", () => (get("guesses").count ? null : nothing));

  // --- all of it
  const sides = { nothing: "all words", left: "hide left", right: "hide right" };
  view.content.append(
    ...stripOf(view),
    note(
      "Click a word to mask it, click again to bring it back. ",
      "The bluer a word, the more the mask attends to it.",
    ),
    element("div.overlaid", words.node, links, text.node),
    view.remark(),
    row(
      edit,
      button("Mask 15 % at random", () => message({ do: "mask at random" })),
      button("Unmask all", () => send({ masked: [] })),
      view.numberField("top_k", "Candidates for each mask", [1, 20], "top", "guesses"),
      legend,
    ),
    row(
      view.choice("hide", "Guess from", sides),
      view.attentionOf("Attention: layer"),
      view.looks.toggle("lines", "Lines"),
    ),
    empty,
    after,
    cards,
    pages,
  );
  return view.show({ traits: ["lines"] });
}

export default { render };
