// TokenTagger: draws what Python computed and reports clicks. See token_tagger.py for the traits.

import { refill, roving, textField } from "./one_text.js";
import { select } from "./parts.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "token-tagger");
  const { send } = sender(model, ask);
  const area = textField(model, send, "The sentence");
  const heads = model.get("choices");
  const [headField, head] = select(
    "Head",
    heads.map((name) => [name, name]),
    (value) => send({ head: value }),
  );
  const remark = element("p", { class: "remark", role: "note" });
  const words = element("div", {
    class: "words",
    role: "group",
    "aria-label": "The words and their classes. Arrow keys move, Enter shows how a class came about.",
  });
  const settle = roving(words);
  const legend = element("div", { class: "legend", role: "list", "aria-label": "Classes in this sentence" });

  // --- the linear layer: labels, one canvas row for each class, logits
  const title = element("h4");
  const joined = element("p", { class: "note" });
  const vector = element("canvas", { class: "strip", role: "img", "aria-label": "The word's vector T" });
  const matrix = element("canvas", {
    class: "matrix",
    role: "img",
    "aria-label": "The weights: a row for each class, a column for each number of T",
  });
  const product = element("canvas", {
    class: "strip",
    role: "img",
    "aria-label": "Weight times T, for the chosen class",
  });
  const names = element("div", {
    class: "names",
    role: "group",
    "aria-label": "Classes. Arrow keys move, Enter shows the dot product.",
  });
  const settleNames = roving(names);
  const logits = element("div", { class: "logits" });
  const productName = element("span", { class: "name" });
  const sum = element("output", { class: "sum" });
  const said = element("p", { class: "said note", "aria-live": "polite" });
  const layer = element(
    "section",
    { class: "part", "aria-label": "The linear layer" },
    title,
    joined,
    element(
      "div",
      { class: "layer" },
      element("span", { class: "name" }, "T"),
      vector,
      element("span", { class: "note" }, "the word's vector"),
      names,
      matrix,
      logits,
      productName,
      product,
      sum,
    ),
    said,
    element(
      "p",
      { class: "note scale" },
      element("span", { class: "bar" }),
      "below zero · zero · above zero. Each picture has its own scale. Click a class to see its dot product; point at a picture for the numbers.",
    ),
  );
  content.append(
    element(
      "p",
      { class: "note" },
      "Type a sentence: every word gets a class. Point at a word for its probability, click it to see how the class came about.",
    ),
    area,
    remark,
    heads.length > 1 ? element("div", { class: "bar-row" }, headField) : "",
    words,
    legend,
    layer,
  );

  // Far apart, also between neighbours; the name of the class stands beside every colour.
  const hue = (label) => {
    const count = model.get("labels").length;
    return Math.round((360 * ((label * (count > 8 ? 7 : 1)) % count)) / count);
  };
  const fixed = (value, digits) =>
    (Math.round(value * 10 ** digits) / 10 ** digits + 0).toFixed(digits).replace("-", "\u2212");
  const paint = (node, label) => (node.style.setProperty("--hue", hue(label)), node);

  function drawWords() {
    const labels = model.get("labels");
    refill(
      words,
      model.get("words").map((word, index) => {
        const parts =
          word.pieces.length > 1
            ? element(
                "small",
                { class: "pieces" },
                element("b", {}, word.pieces[0]),
                ` ${word.pieces.slice(1).join(" ")}`,
              )
            : null;
        return paint(
          element(
            "button",
            {
              class: `stack tag${word.probability < 0.5 ? " unsure" : ""}`,
              type: "button",
              "aria-pressed": String(index === model.get("pinned")),
              title: `${labels[word.label]} ${percent(word.probability)}`,
              onclick: () => send({ pinned: index }),
              onmouseenter: () =>
                (said.textContent = `“${word.text}”: ${labels[word.label]} with ${percent(word.probability)}.`),
              onmouseleave: () => tell(),
            },
            element("span", { class: "text" }, word.text),
            element("small", {}, labels[word.label]),
            parts,
          ),
          word.label,
        );
      }),
    );
    settle();
    const present = [...new Set(model.get("words").map((word) => word.label))].sort((a, b) => a - b);
    legend.replaceChildren(
      ...present.map((label) =>
        element(
          "span",
          { class: "entry", role: "listitem" },
          paint(element("span", { class: "swatch" }), label),
          element("b", {}, labels[label]),
          ` ${model.get("meanings")[label]}`,
        ),
      ),
    );
  }

  const chosen = () => {
    const row = model.get("row");
    return row >= 0 && row < model.get("labels").length ? row : model.get("words")[model.get("pinned")].label;
  };

  // Numbers as colours, each picture with its own strongest one: orange below zero, blue above.
  function picture(canvas, rows) {
    const style = getComputedStyle(root);
    const pen = canvas.getContext("2d");
    const rgb = (name) => {
      pen.fillStyle = style.getPropertyValue(name).trim() || "#888"; // a canvas turns it into #rrggbb
      return [1, 3, 5].map((at) => parseInt(pen.fillStyle.slice(at, at + 2), 16));
    };
    canvas.width = rows[0].length;
    canvas.height = rows.length;
    const back = rgb("--back"),
      above = rgb("--accent"),
      below = rgb("--random");
    const strongest = Math.max(
      1e-9,
      ...rows
        .flat()
        .map(Math.abs)
        .sort((a, b) => b - a)
        .slice(Math.floor(rows.flat().length / 200))
        .slice(0, 1),
    );
    const image = pen.createImageData(canvas.width, canvas.height);
    rows.flat().forEach((value, at) => {
      const share = Math.min(1, Math.abs(value) / strongest);
      const color = value < 0 ? below : above;
      for (let part = 0; part < 3; part++)
        image.data[4 * at + part] = back[part] + share * (color[part] - back[part]);
      image.data[4 * at + 3] = 255;
    });
    pen.putImageData(image, 0, 0);
  }

  let numbers = {};
  function tell(column = null, row = chosen()) {
    const { T, W, P, scores, biases } = numbers;
    const name = model.get("labels")[row];
    const own = row === chosen();
    if (column === null) {
      said.textContent = `${model.get("labels")[chosen()]}: the sum of all ${T.length} products is ${fixed(scores[chosen()] - biases[chosen()], 2)}; with the bias of ${fixed(biases[chosen()], 2)} the logit is ${fixed(scores[chosen()], 2)}. Softmax over all classes turns the logits into probabilities.`;
      return;
    }
    said.textContent =
      `${name}, number ${column + 1} of ${T.length}: weight ${fixed(W[row][column], 3)}, T ${fixed(T[column], 3)}` +
      (own ? `, product ${fixed(P[column], 3)}.` : ". Click the class for its products.");
  }
  for (const canvas of [vector, matrix, product]) {
    canvas.addEventListener("mousemove", (event) => {
      const area = canvas.getBoundingClientRect();
      const at = (offset, size, count) =>
        Math.min(count - 1, Math.max(0, Math.floor((offset / size) * count)));
      tell(
        at(event.clientX - area.left, area.width, canvas.width),
        canvas === matrix ? at(event.clientY - area.top, area.height, canvas.height) : chosen(),
      );
    });
    canvas.addEventListener("mouseleave", () => tell());
    canvas.addEventListener("click", (event) => {
      if (canvas !== matrix) return;
      const area = canvas.getBoundingClientRect();
      send({ row: Math.floor(((event.clientY - area.top) / area.height) * canvas.height) });
    });
  }

  function drawLayer() {
    const labels = model.get("labels");
    const word = model.get("words")[model.get("pinned")];
    const count = model.get("vector").byteLength / 2;
    const [T] = readFloat16(model.get("vector"), count);
    const [P] = readFloat16(model.get("products"), count);
    numbers = {
      T,
      P,
      W: readFloat16(model.get("matrix"), count),
      scores: readFloat16(model.get("logits"), labels.length)[0],
      biases: readFloat16(model.get("bias"), labels.length)[0],
    };
    title.textContent = `“${word.text}”: the linear layer, ${labels.length} classes × ${count} numbers`;
    const pieces = model.get("pieces");
    joined.textContent =
      pieces.length === 1
        ? `“${word.text}” is one word piece: its vector T goes through the layer.`
        : `“${word.text}” is ${pieces.length} word pieces. The first one speaks for the word: ${pieces.map(([piece, label, share], index) => `${piece} ${index ? "would be" : "is"} ${label} (${percent(share)})`).join(", ")}.`;
    refill(
      names,
      labels.map((label, index) =>
        element(
          "button",
          {
            class: `name${index === word.label ? " best" : ""}`,
            type: "button",
            "aria-pressed": String(index === chosen()),
            "aria-label": `${label}, logit ${fixed(numbers.scores[index], 2)}`,
            onclick: () => send({ row: index }),
          },
          paint(element("span", { class: "swatch" }), index),
          label,
        ),
      ),
    );
    settleNames();
    const top = Math.max(...model.get("probabilities"));
    logits.replaceChildren(
      ...labels.map((label, index) => {
        const share = model.get("probabilities")[index];
        return element(
          "span",
          { class: `logit${share === top ? " best" : ""}` },
          element("span", { class: "number" }, fixed(numbers.scores[index], 1)),
          element(
            "span",
            { class: "track" },
            element("span", { class: "fill", style: `width: ${100 * share}%` }),
          ),
          element("span", { class: "number" }, percent(share)),
        );
      }),
    );
    productName.textContent = `${labels[chosen()]} × T`;
    sum.textContent = `sum + bias = ${fixed(numbers.scores[chosen()], 2)}`;
    paintAll();
    matrix.style.setProperty("--rows", labels.length);
    tell();
  }

  // Colours are only known once the widget is on the page.
  const paintAll = () => {
    for (const [canvas, rows] of [
      [vector, [numbers.T]],
      [matrix, numbers.W],
      [product, [numbers.P]],
    ])
      picture(canvas, rows);
  };

  function draw() {
    if (document.activeElement !== area) area.value = model.get("text");
    head.value = model.get("head");
    remark.textContent = model.get("note");
    drawWords();
    drawLayer();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }

  const undo = listen(model, ["revision"], draw);
  draw();
  const watch = new ResizeObserver(paintAll);
  watch.observe(matrix);
  return () => {
    undo();
    stop();
    watch.disconnect();
  };
}

export default { render };
