// AttentionExplorer: all heads of all layers as small maps, one of them large, the answer, and how one
// weight comes about. See attention_explorer.py for the traits.

import {
  bar,
  button,
  choice,
  headGrid,
  inkOf,
  note,
  outline,
  penOf,
  pixels,
  rgbOf,
  select,
  slider,
  textField,
} from "./parts.js";
import { patchArea, pictureOf } from "./picture.js";
import { answerWriter, element, fixed, frame, percent, range, readFloat16, within } from "./shared.js";

const LINE = 17; // pixels of a token's line
const HELP =
  "Each small map is a head: its rows look, its columns are looked at. Move over one to preview it, click " +
  "to pin it; then point at a token on the left.";

// Lists of heads, or of [layer, head] pairs.
const has = (list, item) => list.some((one) => String(one) === String(item));
const toggled = (list, item) => (has(list, item) ? list.filter((one) => !has([one], item)) : [...list, item]);

// --- maps: { tokens, weight(from, to), picture() }, a picture has one pixel for each weight

// The accent colour, more or less opaque, for weights of 8 bits.
function shadesOf(root) {
  const color = rgbOf(inkOf(root)("--accent"));
  return range(256).map((level) => [...color, Math.sqrt(255 * level)]);
}

// A map as Python sends it, 8 bits for a weight and a scale for each row.
function mapOf(root, tokens, bytes, scaleBytes) {
  const count = tokens.length;
  const scales = readFloat16(scaleBytes, 1).flat();
  const most = Math.max(...scales);
  const picture = () => {
    const shades = shadesOf(root);
    const level = (at) => Math.round((bytes.getUint8(at) * scales[Math.floor(at / count)]) / most);
    return pixels(count, count, (at) => shades[level(at)]);
  };
  const weight = (from, to) => (bytes.getUint8(from * count + to) / 255) * scales[from];
  return { tokens, weight, picture };
}

// The thumbnails, as coarse as they are. Their pictures change with input and theme, not with each click.
function thumbnailsOf({ root, get }) {
  let drawn = {};
  return ([layer, head]) => {
    const [bytes, side, tokens] = ["thumbnails", "side", "tokens"].map(get);
    const color = inkOf(root)("--accent");
    const number = layer * get("heads") + head;
    const level = (at) => bytes.getUint8(number * side * side + at);
    const cell = (token) => Math.floor((token * side) / tokens.length);
    const picture = () => {
      if (drawn.bytes !== bytes || drawn.color !== color) {
        drawn = { bytes, color, shades: shadesOf(root), pictures: [] };
      }
      drawn.pictures[number] ??= pixels(side, side, (at) => drawn.shades[level(at)]);
      return drawn.pictures[number];
    };
    return { tokens, weight: (from, to) => level(cell(from) * side + cell(to)) / 255, picture };
  };
}

// --- all heads

function headsOf({ root, get, send, message }, thumbnailOf, preview) {
  const [layers, heads] = [get("layers"), get("heads")];
  const ink = inkOf(root);
  let clicks = "show";
  let effects = []; // what the answer loses without each head, by layer, once that was tried
  let strongest = 1; // of them

  const ways = { show: "show it", mean: "add it to the mean", off: "switch it off" };
  const modes = choice("A click on a head:", ways, (way) => {
    clicks = way;
    modes.draw(clicks);
  });
  const told = element("p.note.told", { "aria-live": "polite" });
  const all = button("Try each head off", () => message({ do: "all heads" }));
  const allOn = button("All heads on", () => send({ off: [] }));
  const cursor = [get("layer"), Math.max(0, get("head"))];
  const grid = headGrid({ layers, heads, cursor, paint, hover, choose });
  const label = { "aria-label": "All heads of all layers" };
  const node = element("section.heads", label, modes.node, grid.canvas, told, element("p.group", all, allOn));

  // --- what a head says and does
  function describe([layer, head]) {
    const off = has(get("off"), [layer, head]) ? ", switched off" : "";
    const effect = effects[layer]?.[head];
    const name = `layer ${layer + 1}, head ${head + 1}${off}`;
    if (effect === undefined) return name;
    const much = answerWriter(get("problem_type"))(Math.abs(effect));
    return `${name}; without it the answer ${effect >= 0 ? "loses" : "gains"} ${much}`;
  }

  function hover(place) {
    told.textContent = place ? describe(place) : "";
    preview(place);
  }

  function choose([layer, head]) {
    preview(null);
    if (clicks === "show") send({ layer, head });
    if (clicks === "off") send({ off: toggled(get("off"), [layer, head]) });
    if (clicks !== "mean") return;
    const before = get("layer") === layer ? get("chosen") : [];
    send({ layer, head: -1, chosen: toggled(before, head).sort((a, b) => a - b) });
  }

  // --- drawing
  function paint(pen, layer, head, [x, y, size]) {
    const area = [x, y, size, size];
    const effect = effects[layer]?.[head];
    if (effect !== undefined) {
      pen.globalAlpha = Math.abs(effect) / strongest;
      pen.fillStyle = ink(effect >= 0 ? "--random" : "--keep");
      pen.fillRect(x - 1.5, y - 1.5, size + 3, size + 3);
      pen.globalAlpha = 1;
    }
    pen.fillStyle = ink("--soft");
    pen.fillRect(...area);
    pen.drawImage(thumbnailOf([layer, head]).picture(), ...area);
    const chosen = get("head") < 0 ? get("chosen") : [get("head")];
    const shown = layer === get("layer") && (!chosen.length || chosen.includes(head));
    if (shown) outline(pen, area, ink("--ink"));
    if (has(get("off"), [layer, head])) cross(pen, area, ink("--bad"));
  }

  const draw = () => {
    effects = readFloat16(get("effects"), heads);
    strongest = Math.max(...effects.flat().map(Math.abs), 1e-9);
    all.disabled = !get("tasks").length;
    modes.draw(clicks);
    grid.draw();
  };
  const heard = (content) => {
    const done = content["layers done"];
    if (done) told.textContent = `${done} of ${layers} layers tried`;
  };
  return { node, draw, heard, grid };
}

function cross(pen, [x, y, size], color) {
  const [near, far] = [2, size - 2];
  pen.strokeStyle = color;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x + near, y + near);
  pen.lineTo(x + far, y + far);
  pen.moveTo(x + far, y + near);
  pen.lineTo(x + near, y + far);
  pen.stroke();
}

// --- what is shown large, and how

function controlsOf({ get, set, send, message }, patches, grid) {
  const title = element("h4");
  const views = { lines: patches ? "picture" : "lines", matrix: "matrix" };
  const view = choice("Drawn as", views, (value) => set({ view: value })); // only the look changes
  const mean = button("mean of heads", () => send({ head: get("head") < 0 ? grid.cursor()[1] : -1 }));
  const hide = patches ? "hide class token" : "hide [CLS] and [SEP]";
  const special = button(hide, () => send({ hide_special: !get("hide_special") }));
  const pairs = ["all", "first to second", "second to first"];
  const [pairField, pair] = select("segments", pairs, (value) => send({ pair: value }));
  const share = "Share of each row's attention that is shown";
  const mass = slider(share, [0.1, 1, 0.05], (value) => send({ mass: value }));
  const written = element("output");
  const compare = button("", () => message({ do: "compare" }));
  const kept = element("label.field", "show what makes up", mass.node, written);
  const nodes = [
    title,
    element("div.group", view.node, mean, special, pairField),
    element("div.group", kept, compare),
  ];

  const draw = () => {
    const [layer, head, chosen] = ["layer", "head", "chosen"].map(get);
    const which = chosen.length ? `heads ${chosen.map((one) => one + 1).join(", ")}` : "all heads";
    title.textContent = `Layer ${layer + 1}, ${head < 0 ? `mean of ${which}` : `head ${head + 1}`}`;
    view.draw(get("view"));
    mean.setAttribute("aria-pressed", head < 0);
    special.setAttribute("aria-pressed", get("hide_special"));
    pair.value = get("pair");
    pairField.hidden = !get("tokens").some(([, segment]) => segment);
    mass.draw(get("mass"));
    written.textContent = `${Math.round(100 * get("mass"))} % of each row`;
    compare.textContent = get("compared").tokens ? "Forget the kept map" : "Keep to compare";
  };
  return { nodes, draw };
}

// A menu whose options change: draw([[value, text], …], value).
function menu(label, choose) {
  const [node, control] = select(label, [], choose);
  let known = "";
  const draw = (options, value) => {
    if (known !== String(options)) {
      control.replaceChildren(...options.map(([at, text]) => element("option", { value: at }, text)));
    }
    known = String(options);
    control.value = value;
  };
  return { node, draw };
}

// --- the large map

function largeOf(view, patches, thumbnailOf) {
  const { root, get, send } = view;
  const ink = inkOf(root);
  const canvas = element("canvas.large", { tabindex: -1 });
  const place = element("div.scroll", canvas);
  const [otherTitle, other] = [element("figcaption.note"), element("canvas.large")];
  const otherPlace = element("figure.scroll", otherTitle, other);
  const tip = element("p.note.told", { "aria-live": "polite" });
  const query = menu("looks", (value) => send({ query: +value }));
  const key = menu("at", (value) => send({ key: +value }));
  const nodes = [element("div.maps", place, otherPlace), tip, element("div.group", query.node, key.node)];
  const seen = pictureOf(view, drawMaps); // what the ViT sees
  let exact = null; // the map of what is chosen
  let previewed = null; // that of a thumbnail, instead of it
  let looking = -1; // the token under the mouse

  const roomOf = (box) => Math.max(200, box.clientWidth - 4);
  const margin = () => (get("tokens").length <= 30 && !patches ? 84 : 0); // for tokens beside the matrix

  // --- the matrix: rows look, columns are looked at
  function drawMatrix(where, map, room, edge = 0) {
    const size = Math.min(room, 440 + edge) - edge;
    const pen = penOf(where, size + edge, size + edge);
    pen.fillStyle = ink("--soft");
    pen.fillRect(edge, edge, size, size);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(map.picture(), edge, edge, size, size);
    return { pen, size };
  }

  function drawOwnMatrix(map, room) {
    const { pen, size } = drawMatrix(canvas, map, room, margin());
    const start = (token) => margin() + (token * size) / map.tokens.length;
    const step = size / map.tokens.length;
    if (margin()) for (const [at, [text]] of map.tokens.entries()) writeToken(pen, text, start(at + 0.5));
    if (get("query") < 0) return;
    outline(pen, [margin(), start(get("query")), size, step], ink("--ink"), 1);
    if (get("key") >= 0) outline(pen, [start(get("key")), margin(), step, size], ink("--ink"), 1);
  }

  function writeToken(pen, text, middle) {
    const [end, room] = [margin() - 5, margin() - 6];
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = ink("--muted");
    pen.textAlign = "right";
    pen.fillText(text, end, middle + 4, room);
    pen.save();
    pen.translate(middle + 4, end);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "left";
    pen.fillText(text, 0, 0, room);
    pen.restore();
  }

  function matrixAt(x, y, { width, height }) {
    const tokenAt = (at, length) => tokenOf(((at - margin()) / (length - margin())) * get("tokens").length);
    const [from, to] = [tokenAt(y, height), tokenAt(x, width)];
    return { said: pairSaid(from, to), pins: { query: from, key: to } };
  }

  // --- lines: tokens on the left look at tokens on the right
  function drawLines(map, room) {
    const count = map.tokens.length;
    const width = Math.min(room, 520);
    const pen = penOf(canvas, width, count * LINE + 8);
    const from = looking >= 0 ? looking : get("query");
    const rows = from >= 0 ? [from] : count <= 60 ? range(count) : [];
    writeTokens(pen, map.tokens, width, from);
    pen.strokeStyle = ink("--accent-ink");
    for (const start of rows) {
      for (const end of range(count)) drawLine(pen, width, start, end, map.weight(start, end));
    }
    const [query, key] = [get("query"), get("key")];
    if (rows.includes(query) && key >= 0) {
      pen.strokeStyle = ink("--random");
      drawLine(pen, width, query, key, map.weight(query, key), true);
    }
    if (rows.length) return;
    tip.textContent = "Many tokens: move over one on the left, or click it, to see what it looks at.";
  }

  function writeTokens(pen, tokens, width, from) {
    for (const [at, [text, segment, kind]] of tokens.entries()) {
      pen.fillStyle = ink(kind === "special" ? "--muted" : segment ? "--random" : "--ink");
      const write = (align, x, strong) => {
        pen.textAlign = align;
        pen.font = `${strong ? "bold " : ""}13px system-ui, sans-serif`;
        pen.fillText(text, x, at * LINE + 18, width * 0.28);
      };
      write("right", width * 0.3 - 8, at === from);
      write("left", width * 0.7 + 8, at === get("key"));
    }
  }

  function drawLine(pen, width, start, end, weight, pinned = false) {
    if (weight < 0.01 && !pinned) return;
    pen.globalAlpha = pinned ? 1 : Math.min(1, weight);
    pen.lineWidth = 0.5 + 3.5 * weight + (pinned ? 1 : 0);
    pen.beginPath();
    pen.moveTo(width * 0.3, start * LINE + 14);
    pen.lineTo(width * 0.7, end * LINE + 14);
    pen.stroke();
  }

  function lineAt(x, y, { width }) {
    const token = tokenOf(y / LINE);
    if (x > width / 2) return { pins: pinOf("key", token) };
    const weights = range(get("tokens").length).map((to) => [exact.weight(token, to), to]);
    const best = weights.sort((a, b) => b[0] - a[0]).slice(0, 3);
    const said = `${nameOf(token)} looks at `;
    const list = best.map(([weight, to]) => `${nameOf(to)} ${percent(weight)}`).join(", ");
    return { said: said + list, pins: pinOf("query", token), looks: token };
  }

  // --- the picture: what the chosen patch, or the class token, does not look at lies in the dark
  function drawPicture(map, room) {
    const [rows, columns] = get("grid");
    const first = map.tokens.length - rows * columns; // what is before it is no patch
    const from = Math.max(0, get("query"));
    const width = Math.min(room, 440);
    const height = (width * rows) / columns;
    const pen = penOf(canvas, width, height);
    const areaOf = (at) => patchArea(at, get("grid"), width, height);
    const weights = range(rows * columns).map((at) => map.weight(from, first + at));
    const most = Math.max(...weights, 1e-9);
    if (seen.ready()) pen.drawImage(seen.image, 0, 0, width, height);
    for (const [at, weight] of weights.entries()) {
      pen.fillStyle = `rgb(0 0 0 / ${Math.round(82 * (1 - weight / most))}%)`;
      pen.fillRect(...areaOf(at));
    }
    if (from >= first) outline(pen, areaOf(from - first), "#fff");
  }

  function patchAt(x, y, { width, height }) {
    const [rows, columns] = get("grid");
    const [row, column] = [Math.floor((y / height) * rows), Math.floor((x / width) * columns)];
    const token = tokenOf(get("tokens").length - rows * columns + row * columns + column);
    return { said: pairSaid(Math.max(0, get("query")), token), pins: pinOf("query", token) };
  }

  // --- the mouse: previews a token, a click pins it
  const tokenOf = (at) => within(Math.floor(at), 0, get("tokens").length - 1);
  const nameOf = (token) => `“${get("tokens")[token][0]}”`;
  const pairSaid = (from, to) => `${nameOf(from)} looks at ${nameOf(to)}: ${percent(exact.weight(from, to))}`;
  const pinOf = (trait, token) => ({ [trait]: get(trait) === token ? -1 : token });

  function under(event) {
    const area = canvas.getBoundingClientRect();
    const at = get("view") === "matrix" ? matrixAt : patches ? patchAt : lineAt;
    return at(event.clientX - area.left, event.clientY - area.top, area);
  }
  canvas.addEventListener("mousemove", (event) => {
    const { said, looks = looking } = under(event);
    if (looks !== looking || previewed) {
      looking = looks;
      previewed = null;
      drawMaps();
    }
    if (said) tip.textContent = said;
  });
  canvas.addEventListener("mouseleave", () => {
    looking = -1;
    drawMaps();
  });
  canvas.addEventListener("click", (event) => send(under(event).pins));

  // --- drawing
  function drawMaps() {
    const drawOwn = get("view") === "matrix" ? drawOwnMatrix : patches ? drawPicture : drawLines;
    const { tokens, title } = get("compared");
    otherPlace.hidden = !tokens; // both share the room
    canvas.dataset.view = get("view");
    drawOwn(previewed ?? exact, roomOf(place));
    if (!tokens) return;
    otherTitle.textContent = `kept: ${title}`;
    const map = mapOf(root, tokens, get("compared_matrix"), get("compared_scales"));
    drawMatrix(other, map, roomOf(otherPlace));
  }

  function draw() {
    const names = [[-1, "nothing"], ...get("tokens").map(([text], at) => [at, `${at}: ${text}`])];
    query.draw(names, get("query"));
    key.draw(names, get("key"));
    exact = mapOf(root, get("tokens"), get("matrix"), get("scales"));
    looking = -1;
    seen.refresh();
    drawMaps();
  }

  const preview = (head) => {
    previewed = head && thumbnailOf(head);
    drawMaps();
  };
  return { nodes, draw, drawMaps, preview, end: seen.stop };
}

// --- the answer

function answerOf({ get, send }) {
  const task = menu("Answer of", (value) => send({ task: value }));
  const bars = element("div.answers");
  const node = element("section.answer", { "aria-label": "The model's answer" }, task.node, bars);
  const draw = () => {
    const tasks = get("tasks").map((name) => [name, name]);
    const [off, all] = [get("off").length, get("layers") * get("heads")];
    const problemType = get("problem_type");
    const tick = problemType === "regression" ? "" : " The tick is the answer with all heads on.";
    const told = `${off} of ${all} heads are off.${tick}`;
    const barOf = ([name, now, before]) =>
      bar(name, now, { before: off ? before : null, told: "with all heads:", problemType });
    node.hidden = !tasks.length;
    task.draw(tasks, get("task"));
    bars.replaceChildren(...get("answers").map(barOf), note(off ? told : ""));
  };
  return { node, draw };
}

// --- the pinned pair, step by step

function stepsOf({ get }) {
  const node = element("section.part.steps", { "aria-label": "How this weight comes about" });

  const cell = (value, most) => {
    const style = `--size: ${Math.round((100 * Math.abs(value)) / most)}%`;
    return element(value < 0 ? "i.negative" : "i", { title: value, style });
  };
  const strip = (name, values, most) =>
    element("div.strip", element("span.note", name), ...values.map((value) => cell(value, most)));

  function draw() {
    const { query, key, product, score, scaled, exponential, total, probability } = get("steps");
    node.hidden = !query;
    if (!query) return;
    const most = Math.max(...[query, key, product].flat().map(Math.abs), 1e-9);
    const [from, to] = [get("query"), get("key")].map((token) => get("tokens")[token][0]);
    const off = has(get("off"), [get("layer"), get("head")]);
    const comes = off ? "would come" : "comes";
    const title = `How “${from}” ${comes} to look at “${to}” with ${percent(probability)}`;
    node.replaceChildren(
      element("h4", off ? `${title}, were this head not switched off` : title),
      strip(`query of “${from}”`, query, most),
      strip(`key of “${to}”`, key, most),
      strip("product", product, most),
      note(
        `Sum of the products ${fixed(score, 2)}, divided by √${query.length}: ${fixed(scaled, 2)}. `,
        `Softmax: e to that, ${exponential.toPrecision(3)}, over the sum for all ${get("tokens").length} `,
        `tokens, ${total.toPrecision(3)}: ${percent(probability)}. `,
        "Blue is positive, brown negative; the mouse shows the numbers.",
      ),
    );
  }
  return { node, draw };
}

// --- the view

function render({ model, el }) {
  const view = frame(model, el, "attention-explorer");
  const patches = view.get("grid").length > 0;
  const second = "Second text (optional)";
  const texts = patches ? [] : [textField(view, "text", "Text"), textField(view, "second", second)];
  const thumbnailOf = thumbnailsOf(view);
  const large = largeOf(view, patches, thumbnailOf);
  const heads = headsOf(view, thumbnailOf, large.preview);
  const controls = controlsOf(view, patches, heads.grid);
  const answer = answerOf(view);
  const steps = stepsOf(view);
  const label = { "aria-label": "One map, large" };
  view.content.append(
    note(HELP),
    element("div.columns", { hidden: patches }, ...texts.map((text) => text.node)),
    element(
      "div.columns.explorer",
      heads.node,
      element("section.one", label, ...controls.nodes, ...large.nodes),
    ),
    answer.node,
    steps.node,
  );

  const draw = () => {
    for (const one of [...texts, controls, large, heads, answer, steps]) one.draw();
  };
  const resized = () => {
    heads.grid.draw();
    large.drawMaps();
  };
  return view.show(draw, { traits: ["view"], resized, heard: heads.heard, end: large.end });
}

export default { render };
