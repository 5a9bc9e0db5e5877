// SentenceClassifier: draws what Python computed and reports clicks. See sentence_classifier.py for the traits.

import { refill, roving, textField } from "./one_text.js";
import { select } from "./parts.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "sentence-classifier");
  const { send, message } = sender(model, ask);
  let asked = 0; // a timer: what explains the answer is asked for when typing rests

  const area = textField(model, send, "The sentence");
  const heads = model.get("choices");
  const [headField, head] = select(
    "Head",
    heads.map((name) => [name, name]),
    (value) => send({ head: value }),
  );
  const all = element(
    "button",
    { class: "plain", type: "button", onclick: () => send({ hidden: [] }) },
    "Show all words",
  );
  const remark = element("p", { class: "remark", role: "note" });
  const bars = element("div", {
    role: "group",
    "aria-label": "Classes, the most probable first. Enter asks for the reasons of a class.",
  });
  const ofClass = element("b");
  const left = panel(
    "Gradient relevance",
    "Share of what reaches [CLS] in favour of this class: attention times its gradient, through all layers. Never below zero.",
  );
  const right = panel(
    "Leave one out",
    "Each word is hidden once: by how many points does the probability fall? Blue: it speaks for the class. Orange, dashed: against it.",
  );
  const why = element(
    "p",
    { class: "why" },
    "Which words spoke for ",
    ofClass,
    "? Click a word to hide it from the model.",
  );
  const pages = element(
    "div",
    { class: "panels" },
    element(
      "section",
      { class: "part classes", "aria-label": "Classes" },
      element("h4", {}, "Class"),
      bars,
      element("p", { class: "note tick" }),
    ),
    element("div", { class: "reasons" }, why, element("div", { class: "pair" }, left.part, right.part)),
  );
  content.append(
    element("p", { class: "note" }, "Type a sentence. Click a class to see the words behind it."),
    area,
    remark,
    element("div", { class: "bar-row" }, heads.length > 1 ? headField : null, all),
    pages,
  );

  function panel(title, text) {
    const words = element("div", {
      class: "words",
      role: "group",
      "aria-label": `${title}. Arrow keys move, Enter hides a word or shows it again.`,
    });
    const said = element("span", { class: "note" });
    return {
      words,
      said,
      settle: roving(words),
      part: element(
        "section",
        { class: "part", "aria-label": title },
        element("h4", {}, title),
        element("p", { class: "note" }, text),
        words,
        said,
      ),
    };
  }

  function hide(index) {
    const words = model
      .get("words")
      .map((word, at) => (at === index ? { ...word, hidden: !word.hidden } : word));
    send({ hidden: words.filter((word) => word.hidden).map((word) => [word.start, word.end]) });
  }

  function near(index, on) {
    for (const { words } of [left, right]) words.children[index]?.classList.toggle("near", on);
  }

  function drawWords({ words: group, settle }, values, show, known) {
    const strongest = Math.max(...values.map(Math.abs), 1e-6);
    refill(
      group,
      model.get("words").map((word, index) => {
        if (word.special) return element("span", { class: "stack special" }, word.text, element("small"));
        const value = values[index] ?? 0;
        const number = word.hidden ? "hidden" : known(index) ? show(value) : "…";
        const button = element(
          "button",
          {
            class: `stack${value < 0 ? " against" : ""}${word.hidden ? " off" : ""}`,
            type: "button",
            "aria-pressed": String(word.hidden),
            title: word.pieces.length > 1 ? `word pieces: ${word.pieces.join(" ")}` : null,
            onclick: () => hide(index),
            onmouseenter: () => near(index, true),
            onmouseleave: () => near(index, false),
          },
          element("span", { class: "text" }, word.text),
          element("small", {}, number),
        );
        if (!word.hidden)
          button.style.setProperty("--shade", `${Math.round((46 * Math.abs(value)) / strongest)}%`);
        return button;
      }),
    );
    settle();
  }

  function drawBars() {
    const compared = model.get("words").some((word) => word.hidden);
    refill(
      bars,
      model.get("bars").map(([label, now, before]) => {
        const track = element(
          "span",
          { class: "track" },
          element("div", { class: "fill", style: `width: ${100 * now}%` }),
        );
        if (compared)
          track.append(
            element("span", {
              class: "before",
              style: `left: ${99 * before}%`,
              title: `with all words: ${percent(before)}`,
            }),
          );
        const chosen = label === model.get("chosen");
        return element(
          "button",
          {
            class: "candidate",
            type: "button",
            "aria-pressed": String(chosen),
            onclick: () => send({ target: label === model.get("target") ? "" : label }),
          },
          element("span", { class: "word" }, label),
          track,
          element("span", { class: "value" }, percent(now)),
        );
      }),
    );
    pages.querySelector(".tick").textContent = compared
      ? "The tick is the probability with all words in sight."
      : "";
    all.disabled = !compared;
  }

  function draw() {
    const words = model.get("words");
    const [relevance] = readFloat16(model.get("relevance"), words.length);
    const [falls] = readFloat16(model.get("left_out"), words.length);
    const tried = new Set(model.get("tried"));
    const free = words.filter((word) => !word.special && !word.hidden).length;
    if (document.activeElement !== area) area.value = model.get("text");
    head.value = model.get("head");
    remark.textContent = model.get("note");
    ofClass.textContent = `“${model.get("chosen")}”`;
    drawBars();
    const ready = !model.get("waiting") || tried.size > 0 || relevance?.some((value) => value > 0);
    drawWords(left, relevance ?? [], percent, () => ready);
    drawWords(right, falls ?? [], points, (index) => tried.has(index));
    right.said.textContent = model.get("waiting")
      ? `${tried.size} words tried …`
      : tried.size < free
        ? `The ${tried.size} most relevant of ${free} words were tried.`
        : "";
    root.dataset.revision = model.get("revision"); // tests wait for it
    root.dataset.explained = String(!model.get("waiting"));
    clearTimeout(asked);
    // Asked for in small portions, so that typing never waits for the reasons of an old text.
    if (model.get("waiting") && !model.saved)
      asked = setTimeout(() => message({ do: "explain" }), ready ? 0 : 250);
  }

  // A fall of the probability in percentage points, with a sign that does not need the colour.
  function points(value) {
    const rounded = Math.round(1000 * value) / 10;
    return rounded > 0 ? `+${rounded.toFixed(1)}` : rounded < 0 ? `\u2212${(-rounded).toFixed(1)}` : "0";
  }

  const undo = listen(model, ["revision"], draw);
  draw();
  return () => {
    clearTimeout(asked);
    undo();
    stop();
  };
}

export default { render };
