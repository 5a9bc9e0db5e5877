// TokenTagger: a text, the class of every word, and the linear layer that gave one of them: vector, matrix,
// products. See token_tagger.py for the traits.

import { bar, chips, note, part, refill, roving, select, signedPixels, textField } from "./parts.js";
import { answerWriter, element, fixed, frame, readFloat16, within } from "./shared.js";

const BECOMES = {
  single_label_classification: "Softmax over all classes turns the logits into probabilities.",
  multi_label_classification: "The sigmoid of each logit is the probability of its class.",
  regression: "That is the answer.",
};

function render({ model, el }) {
  const view = frame(model, el, "token-tagger");
  const { content, root, get, send, show } = view;
  let layer = {}; // T, W, products, biases, logits: the numbers that are drawn

  // --- the sentence
  const text = textField(view, "text", "The sentence");
  const [headField, head] = select("Head", get("choices"), (name) => send({ head: name }));
  headField.hidden = get("choices").length < 2;
  const remark = element("p.remark", { role: "note" });
  const walk = "The words and their classes. Arrow keys move, Enter shows how a class came about.";
  const words = chips(walk, (pinned) => send({ pinned }), tellWord);
  const legend = element("div.legend", { role: "list", "aria-label": "Classes in this sentence" });

  // --- the linear layer: labels, one canvas row for each class, logits
  const joined = note();
  const numbers = (kind, label) => element(`canvas.${kind}`, { role: "img", "aria-label": label });
  const vector = numbers("strip", "The word's vector T");
  const matrix = numbers("matrix", "The weights: a row for each class, a column for each number of T");
  const product = numbers("strip", "Weight times T, for the chosen class");
  const classes = "Classes. Arrow keys move, Enter shows the dot product.";
  const names = element("div.rows", { role: "group", "aria-label": classes });
  const settle = roving(names);
  const logits = element("div.rows");
  const productName = element("span.name");
  const sum = element("output.sum");
  const said = element("p.said", { "aria-live": "polite" });
  const section = part(
    "The linear layer",
    joined,
    element(
      "div.layer",
      [element("span.name", "T"), vector, element("span.note", "the word's vector")],
      [names, matrix, logits],
      [productName, product, sum],
    ),
    said,
    note(
      element("span.scale"),
      "below zero · zero · above zero. Each picture has its own scale. ",
      "Click a class to see its dot product; point at a picture for the numbers.",
    ),
  );
  content.append(
    note(
      "Type a sentence: every word gets a class. Point at a word for its probability, ",
      "click it to see how the class came about.",
    ),
    text.node,
    remark,
    headField,
    words.node,
    legend,
    section,
  );

  // --- what mouse and clicks do on the pictures
  for (const canvas of [vector, matrix, product]) {
    const cellAt = (event) => {
      const area = canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - area.left) / area.width) * canvas.width);
      const row = Math.floor(((event.clientY - area.top) / area.height) * canvas.height);
      return [within(column, 0, canvas.width - 1), within(row, 0, canvas.height - 1)];
    };
    canvas.addEventListener("mousemove", (event) => {
      const [column, row] = cellAt(event);
      tellNumber(column, canvas === matrix ? row : chosen());
    });
    canvas.addEventListener("mouseleave", tellSum);
    if (canvas === matrix) canvas.addEventListener("click", (event) => send({ row: cellAt(event)[1] }));
  }

  const chosen = () => {
    const row = get("row");
    return row >= 0 && row < get("labels").length ? row : get("words")[get("pinned")].label;
  };

  const write = (answer) => answerWriter(get("problem_type"))(answer);

  function tellWord(index) {
    const word = get("words")[index];
    if (!word) return tellSum();
    said.textContent = `“${word.text}”: ${get("labels")[word.label]} with ${write(word.answer)}.`;
  }

  function tellSum() {
    const { T, logits, biases } = layer;
    const [logit, bias] = [logits[chosen()], biases[chosen()]];
    said.textContent =
      `${get("labels")[chosen()]}: the sum of all ${T.length} products is ${fixed(logit - bias, 2)}; ` +
      `with the bias of ${fixed(bias, 2)} the logit is ${fixed(logit, 2)}. ` +
      BECOMES[get("problem_type")];
  }

  function tellNumber(column, row) {
    const { T, W, products } = layer;
    const place = `${get("labels")[row]}, number ${column + 1} of ${T.length}`;
    const own = `, product ${fixed(products[column], 3)}.`;
    said.textContent =
      `${place}: weight ${fixed(W[row][column], 3)}, T ${fixed(T[column], 3)}` +
      (row === chosen() ? own : ". Click the class for its products.");
  }

  // --- drawing
  // Colours far apart, also between neighbours; the name of the class stands beside every colour.
  const hue = (label) => {
    const count = get("labels").length;
    return Math.round((360 * ((label * (count > 8 ? 7 : 1)) % count)) / count);
  };
  const swatch = (label) => element("span.swatch", { style: `--hue: ${hue(label)}` });

  function drawWords() {
    const labels = get("labels");
    const probable = get("problem_type") !== "regression";
    const pieces = ([first, ...rest]) => element("small.pieces", element("b", first), ` ${rest.join(" ")}`);
    const item = (word, index) => ({
      text: word.text,
      kind: probable && word.answer < 0.5 ? "tag unsure" : "tag",
      pressed: index === get("pinned"),
      title: `${labels[word.label]} ${write(word.answer)}`,
      below: [
        element("small", probable ? labels[word.label] : write(word.answer)),
        ...(word.pieces.length > 1 ? [pieces(word.pieces)] : []),
      ],
      style: { "--hue": hue(word.label) },
    });
    words.draw(get("words").map(item));
    const present = [...new Set(get("words").map((word) => word.label))].sort((a, b) => a - b);
    const entry = (label) => [swatch(label), element("b", labels[label]), get("meanings")[label]];
    legend.replaceChildren(
      ...present.map((label) => element("span.field", { role: "listitem" }, ...entry(label))),
    );
  }

  function readLayer() {
    const count = get("vector").byteLength / 2;
    const [T, products] = ["vector", "products"].map((trait) => readFloat16(get(trait), count)[0]);
    const size = get("labels").length;
    const [logits, biases] = ["logits", "bias"].map((trait) => readFloat16(get(trait), size)[0]);
    return { T, products, logits, biases, W: readFloat16(get("matrix"), count) };
  }

  function drawTitle(word) {
    const size = `${get("labels").length} classes × ${layer.T.length} numbers`;
    section.firstChild.textContent = `“${word.text}”: the linear layer, ${size}`;
    const pieces = get("pieces").map(
      ([piece, label, share], index) => `${piece} ${index ? "would be" : "is"} ${label} (${write(share)})`,
    );
    const one = "is one word piece: its vector T goes through the layer.";
    const more = `is ${pieces.length} word pieces. The first one speaks for the word: ${pieces.join(", ")}.`;
    joined.textContent = `“${word.text}” ${pieces.length === 1 ? one : more}`;
  }

  function drawLayer() {
    const labels = get("labels");
    const best = get("words")[get("pinned")].label;
    const name = (label, index) => {
      const options = {
        type: "button",
        "aria-pressed": `${index === chosen()}`,
        "aria-label": `${label}, logit ${fixed(layer.logits[index], 2)}`,
        onclick: () => send({ row: index }),
      };
      return element("button.name", options, swatch(index), label);
    };
    refill(names, labels.map(name));
    settle();
    const problemType = get("problem_type");
    const barOf = (answer, index) => bar(fixed(layer.logits[index], 1), answer, { problemType });
    const rows = get("answers").map(barOf);
    rows[best].classList.add("best");
    logits.replaceChildren(...rows);
    productName.textContent = `${labels[chosen()]} × T`;
    sum.textContent = `sum + bias = ${fixed(layer.logits[chosen()], 2)}`;
    matrix.style.setProperty("--rows", labels.length);
  }

  function paint() {
    const { T, W, products } = layer;
    for (const [canvas, rows] of [
      [vector, [T]],
      [matrix, W],
      [product, [products]],
    ]) {
      signedPixels(canvas, rows, root, Math.floor((rows.length * T.length) / 200));
    }
  }

  function draw() {
    text.draw();
    head.value = get("head");
    remark.textContent = get("note");
    layer = readLayer();
    drawWords();
    drawTitle(get("words")[get("pinned")]);
    drawLayer();
    paint();
    tellSum();
  }
  return show(draw, { resized: paint }); // colours are only known once the widget is on the page
}

export default { render };
