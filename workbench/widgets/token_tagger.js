// TokenTagger: a text, the class of every word, and the linear layer that gave one of them: vector, matrix,
// products. See token_tagger.py for the traits.

import {
  bar,
  cellUnder,
  chips,
  classColor,
  classSwatch,
  note,
  roving,
  signedPixels,
  viewOf,
} from "./parts.js";
import { answerWriter, element, fixed, readFloat16 } from "./shared.js";

const BECOMES = {
  single_label_classification: "Softmax over all classes turns the logits into probabilities.",
  multi_label_classification: "The sigmoid of each logit is the probability of its class.",
  regression: "That is the answer.",
};

function render({ model, el }) {
  const view = viewOf(model, el, "token-tagger");
  const { get, send, ink, drawn } = view;
  const write = (answer) => answerWriter(get("problem_type"))(answer);
  const pinned = () => get("words")[get("pinned")];
  const chosen = () => {
    const row = get("row");
    return row >= 0 && row < get("labels").length ? row : pinned().label;
  };
  let layer = {}; // T, W, products, biases, logits: the numbers that are drawn

  drawn(() => {
    const count = get("vector").byteLength / 2;
    const [T, products] = ["vector", "products"].map((trait) => readFloat16(get(trait), count)[0]);
    const size = get("labels").length;
    const [logits, biases] = ["logits", "bias"].map((trait) => readFloat16(get(trait), size)[0]);
    layer = { T, products, logits, biases, W: readFloat16(get("matrix"), count) };
  });

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
  const legend = view.live("div.legend.note", listed, () => {
    const present = [...new Set(get("words").map((word) => word.label))].sort((a, b) => a - b);
    const entry = (label) => [swatch(label), element("b", get("labels")[label]), get("meanings")[label]];
    return present.map((label) => element("span.field", { role: "listitem" }, entry(label)));
  });

  // --- the linear layer: labels, one canvas row for each class, logits
  const numbers = (kind, label) => element(`canvas.${kind}`, { role: "img", "aria-label": label });
  const vector = numbers("strip", "The word's vector T");
  const matrix = numbers("matrix", "The weights: a row for each class, a column for each number of T");
  const product = numbers("strip", "Weight times T, for the chosen class");
  const title = view.live("h4", () => {
    const size = `${get("labels").length} classes × ${layer.T.length} numbers`;
    return `“${pinned().text}”: the linear layer, ${size}`;
  });
  const joined = view.live("p.note", () => {
    const pieces = get("pieces").map(
      ([piece, label, share], index) => `${piece} ${index ? "would be" : "is"} ${label} (${write(share)})`,
    );
    const one = "is one word piece: its vector T goes through the layer.";
    const more = `is ${pieces.length} word pieces. The first one speaks for the word: ${pieces.join(", ")}.`;
    return `“${pinned().text}” ${pieces.length === 1 ? one : more}`;
  });
  const classes = "Classes. Arrow keys move, Enter shows the dot product.";
  const names = view.live("div.rows", { role: "group", "aria-label": classes }, () =>
    get("labels").map((label, row) => {
      const options = {
        type: "button",
        "aria-pressed": `${row === chosen()}`,
        "aria-label": `${label}, logit ${fixed(layer.logits[row], 2)}`,
        onclick: () => send({ row }),
      };
      return element("button.name", options, swatch(row), label);
    }),
  );
  drawn(roving(names));
  const logits = view.live("div.rows", () =>
    get("answers").map((answer, row) => {
      const kind = row === pinned().label ? "best" : "";
      return bar(fixed(layer.logits[row], 1), answer, { kind, problemType: get("problem_type") });
    }),
  );
  const productName = view.live("span.name", () => `${get("labels")[chosen()]} × T`);
  const sum = view.live("output.sum", () => `sum + bias = ${fixed(layer.logits[chosen()], 2)}`);
  const said = element("p.said", { "aria-live": "polite" });

  // --- what mouse and clicks do on the pictures
  for (const canvas of [vector, matrix, product]) {
    const under = (event) => cellUnder(event, [canvas.height, canvas.width]);
    canvas.onmousemove = (event) => {
      const cell = under(event);
      if (cell) tellNumber(cell[1], canvas === matrix ? cell[0] : chosen());
    };
    canvas.onmouseleave = tellSum;
    if (canvas === matrix) canvas.onclick = (event) => under(event) && send({ row: under(event)[0] });
  }

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

  function paint() {
    const { T, W, products } = layer;
    const clip = (rows) => Math.floor((rows.length * T.length) / 200);
    matrix.style.setProperty("--rows", W.length);
    signedPixels(vector, [T], ink, clip([T]));
    signedPixels(matrix, W, ink, clip(W));
    signedPixels(product, [products], ink, clip([products]));
  }
  drawn(paint);
  drawn(tellSum);

  view.content.append(
    note(
      "Type a sentence: every word gets a class. Point at a word for its probability, ",
      "click it to see how the class came about.",
    ),
    view.textField("text", "The sentence").node,
    view.remark(),
    view.headMenu(),
    words.node,
    legend,
    element(
      "section.part",
      { "aria-label": "The linear layer" },
      title,
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
    ),
  );
  return view.show({ resized: paint }); // colours are only known once the widget is on the page
}

export default { render };
