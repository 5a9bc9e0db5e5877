// AttentionExplorer: all heads of all layers as small maps, one of them large, the answer, and how one
// weight comes about. See attention_explorer.py for the traits.

import { cellUnder, outline, penOf, pixels, rgbOf, straightLine, writeAxes } from "./drawing.js";
import { button, columns, note, told, viewOf } from "./parts.js";
import { LEFT_OUT, mapBoards, massSlider, pictureInput } from "./picture.js";
import { element, fixed, isolated, percent, range, readFloat16, within } from "./shared.js";
import { named, rowsOf, stripOf } from "./strip.js";

const LINE = 17; // pixels of a token's line
const HELP =
  "Each small map is a head: its rows look, its columns are looked at. Move over one to preview it, click " +
  "to pin it; then point at a token on the left.";
const HELP_ON_PATCHES =
  "Each small map is a head: over the picture, what the class token looks at, or the patch that you click; " +
  "as a matrix, rows look and columns are looked at. Move over one to preview it, click to pin it.";
const MANY = "Many tokens: move over one on the left, or click it, to see what it looks at.";

// Lists of heads, or of [layer, head] pairs.
const has = (list, item) => list.some((one) => String(one) === String(item));
const toggled = (list, item) => (has(list, item) ? list.filter((one) => !has([one], item)) : [...list, item]);

// What pins a token, or lets it go.
const pinOf = ({ get }, trait, token) => ({ [trait]: get(trait) === token ? -1 : token });

// Whether weights are left out of the map, so that 0 is not what the model says.
const switches = (view) =>
  view.get("mass") < 1 || view.get("hide_special") || (view.get("pair") !== "all" && isPair(view));
const isPair = ({ get }) => get("tokens").some(([, segment]) => segment);

// Where two checkpoints look most differently, in what is drawn: [query, key, here, beside].
const differencesOf = ({ get }) =>
  get(get("grid").length && get("view") !== "matrix" ? "patch_differences" : "differences");

// The colour of a weight that is larger, or smaller, than beside it.
const changeInk = (ink, here, beside) => ink(here > beside ? "--keep" : "--random");

// --- maps: { tokens, weight(from, to), picture(canvas) }, a picture has one pixel for each weight

// A map of rows and columns, which may stand for several tokens each; `weightAt` gives the weight of a cell
// by its number. The picture is one colour, [red, green, blue], more or less opaque: wholly for `most`.
function mapOf(color, tokens, side, weightAt, most = 1) {
  const cell = (token) => Math.floor((token * side) / tokens.length);
  const picture = (canvas) => {
    const shades = range(256).map((level) => [...color, Math.sqrt(255 * level)]);
    return pixels(side, side, (at) => shades[Math.round((255 * weightAt(at)) / most)], canvas);
  };
  return { tokens, weight: (from, to) => weightAt(cell(from) * side + cell(to)), picture };
}

// --- all heads

function headsOf(view, large) {
  const { get, send, message, ink, drawn } = view;
  const [layers, heads] = [get("layers"), get("heads")];
  const own = { clicks: "show" }; // what a click on a head does
  let effects = []; // what the answer loses without each head, by layer, once that was tried
  let strongest = 1; // of them
  let apart = []; // how differently the other checkpoint's heads look
  let accent = [];

  const ways = { show: "show it", mean: "add it to the mean", off: "switch it off" };
  const all = button("Try each head off", () => message({ do: "all heads" }));
  const allOn = button("All heads on", () => message({ do: "all on" }));
  const most = get("grid").length ? 64 : 40;
  const key = () => [get("thumbnails"), get("maps"), ink("--accent"), get("view")];
  const picture = (place, canvas) =>
    large.over() ? large.over().small(place, canvas) : thumbnailOf(place).picture(canvas);
  const hover = preview;
  const grid = view.headGrid({ most, key, picture, under, over, isChosen, describe, hover, choose });
  const node = element(
    "section.heads",
    { "aria-label": "All heads of all layers" },
    view.local(own).choice("clicks", "A click on a head:", ways),
    grid.canvas,
    grid.told,
    element("p.group", all, allOn),
  );

  // As coarse as it is sent.
  function thumbnailOf([layer, head]) {
    const [{ buffer, byteOffset }, side] = ["thumbnails", "side"].map(get);
    const own = new DataView(buffer, byteOffset + (layer * heads + head) * side * side);
    return mapOf(accent, get("tokens"), side, (at) => (own.getUint8(at) / 255) ** 2);
  }

  // --- what a head says and does
  function describe([layer, head]) {
    const off = has(get("off"), [layer, head]) ? ", switched off" : "";
    const effect = effects[layer]?.[head];
    const far = apart[layer] ? `; ${percent(apart[layer][head])} of its weight lies elsewhere beside it` : "";
    const name = `layer ${layer + 1}, head ${head + 1}${off}${far}`;
    if (effect === undefined) return name;
    const much = view.write(Math.abs(effect));
    return `${name}; without it the answer ${effect >= 0 ? "loses" : "gains"} ${much}`;
  }

  function preview(place) {
    if (large.over()) large.over().preview(place);
    else large.preview(place && thumbnailOf(place));
  }

  function choose([layer, head]) {
    preview(null);
    if (own.clicks === "show") send({ layer, head });
    if (own.clicks === "off") send({ off: toggled(get("off"), [layer, head]) });
    if (own.clicks !== "mean") return;
    const before = get("layer") === layer ? get("chosen") : [];
    send({ layer, head: -1, chosen: toggled(before, head).sort((a, b) => a - b) });
  }

  // --- drawing
  function under(pen, [layer, head], [x, y, size]) {
    const effect = effects[layer]?.[head] ?? 0;
    const far = (apart[layer]?.[head] ?? 0) / Math.max(...apart.flat(), 0.01);
    pen.globalAlpha = effects.length ? Math.abs(effect) / strongest : far; // until heads are tried
    pen.fillStyle = ink(effect >= 0 ? "--random" : "--keep");
    pen.fillRect(x - 1.5, y - 1.5, size + 3, size + 3);
    pen.globalAlpha = 1;
    pen.fillStyle = ink("--soft");
    pen.fillRect(x, y, size, size);
  }

  function isChosen([layer, head]) {
    const chosen = get("head") < 0 ? get("chosen") : [get("head")];
    return layer === get("layer") && (!chosen.length || chosen.includes(head));
  }

  function over(pen, place, [x, y, size]) {
    if (!has(get("off"), place)) return;
    const [near, far] = [2, size - 2];
    straightLine(pen, [x + near, y + near], [x + far, y + far], ink("--bad"));
    straightLine(pen, [x + far, y + near], [x + near, y + far], ink("--bad"));
  }

  drawn(() => {
    effects = readFloat16(get("effects"), heads);
    apart = readFloat16(get("apart"), heads);
    strongest = Math.max(...effects.flat().map(Math.abs), 1e-9);
    accent = rgbOf(ink("--accent"));
    all.disabled = !get("tasks").length;
    allOn.disabled = !get("off").length && !effects.length;
    grid.draw();
  });
  const heard = (content) => {
    const done = content["layers done"];
    if (done) grid.told.textContent = `${done} of ${layers} layers tried`;
  };
  return { node, heard };
}

// --- what is shown large, and how

function controlsOf(view, maps) {
  const { get, send, message, drawn } = view;
  let single = 0; // the head that was shown last
  const mean = button("mean of heads", () => send({ head: get("head") < 0 ? single : -1 }));
  const pairs = ["all", "first to second", "second to first"];
  const pair = view.select("pair", "segments", pairs);
  const compare = button("", () => message({ do: "compare" }));
  const views = { lines: maps ? "picture" : "lines", matrix: "matrix" };
  const hide = view.toggle("hide_special", maps ? "hide class token" : "hide [CLS] and [SEP]");
  const title = view.live("h4", () => {
    const [layer, head, chosen] = ["layer", "head", "chosen"].map(get);
    const which = chosen.length ? `heads ${chosen.map((one) => one + 1).join(", ")}` : "all heads";
    return `Layer ${layer + 1}, ${head < 0 ? `mean of ${which}` : `head ${head + 1}`}`;
  });
  drawn(() => {
    if (get("head") >= 0) single = get("head");
    mean.setAttribute("aria-pressed", get("head") < 0);
    pair.hidden = !isPair(view);
    compare.textContent = get("compared").tokens ? "Forget the kept map" : "Keep to compare";
    hide.hidden = maps && get("view") !== "matrix";
    compare.hidden = hide.hidden || get("other") !== "";
  });
  const drawnAs = view.looks.choice("view", "Drawn as", views);
  return [title, element("div.group", drawnAs, mean, hide, pair, massSlider(view), compare)];
}

// --- the large map

function largeOf(view, maps) {
  const { get, send, ink, drawn } = view;
  const [canvas, other] = [element("canvas.large", { tabindex: -1 }), element("canvas.large")];
  const [ownTitle, otherTitle] = [element("figcaption.note"), element("figcaption.note")];
  const place = element("figure.scroll", canvas, ownTitle);
  const otherPlace = element("figure.scroll", other, otherTitle);
  const tip = told();
  const over = () => (get("view") === "matrix" ? null : maps); // the picture is what is drawn
  const tokens = () => [[-1, "nothing"], ...get("tokens").map(([text], at) => [at, `${at}: ${text}`])];
  const pinned = [view.select("query", "looks", tokens), view.select("key", "at", tokens)];
  const all = element("div", element("div.maps.bar-row", place, otherPlace), tip);
  const changes = view.live("p.note", { "aria-live": "polite" }, () => {
    if (!get("other")) return null;
    const listed = differencesOf(view).slice(0, 3);
    const text = ([from, to, here, there]) =>
      `${nameOf(from)} looks at ${nameOf(to)} with ${percent(here)}, beside it with ${percent(there)}`;
    const framed = get("effects").byteLength
      ? "without that head the answer loses (orange) or gains (green)"
      : "the head differs";
    const marked =
      `The stronger the frame of a small map, the more ${framed}. The large ones are on one scale; ` +
      "marked is where they differ most: green is more in the first, orange more in the second.";
    return [marked, listed.length > 0 && ` First of all: ${listed.map(text).join("; ")}.`];
  });
  const nodes = [all, maps?.node, changes, element("div.group", ...pinned)];
  let exact = null; // the map of what is chosen
  let beside = null; // that of the other checkpoint
  let previewed = null; // that of a thumbnail, instead of it
  let looking = -1; // the token under the mouse
  let pointed = null; // the last move of the mouse, while it is over the map

  const roomOf = (box) => Math.max(200, box.clientWidth - 4);
  const marginOf = (tokens) => (tokens.length <= 30 && !maps ? 84 : 0); // for tokens beside the matrix

  // A map with a row for each token: the one of now, or that beside it. Two checkpoints have one scale.
  function whole(tokens, kind = "") {
    const weights = weightsOf(tokens, kind);
    let most = 1e-9;
    for (const map of get("other") ? [weightsOf(tokens), weightsOf(tokens, "compared_")] : [weights])
      for (const weight of map) most = Math.max(most, weight);
    return mapOf(rgbOf(ink("--accent")), tokens, tokens.length, (at) => weights[at], most);
  }

  // All its weights: float16, or, of many tokens, roots in 8 bits of shares of what `scales` say for each
  // row, of special tokens and of the others.
  function weightsOf(tokens, kind = "") {
    const [bytes, scales] = [get(`${kind}matrix`), readFloat16(get(`${kind}scales`), tokens.length)];
    if (!scales.length) return readFloat16(bytes, 1e9)[0] ?? [];
    const rows = range(tokens.length);
    const scaleOf = tokens.map(([, , what]) => scales[what === "special" ? 0 : 1]); // by column
    return rows.flatMap((row) =>
      rows.map((at) => (bytes.getUint8(row * rows.length + at) / 255) ** 2 * scaleOf[at][row]),
    );
  }

  // --- the matrix: rows look, columns are looked at
  function drawMatrix(where, map, room) {
    const edge = marginOf(map.tokens);
    const size = Math.min(room, 440 + edge) - edge;
    const pen = penOf(where, size + edge, size + edge);
    pen.fillStyle = ink("--soft");
    pen.fillRect(edge, edge, size, size);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(map.picture(), edge, edge, size, size);
    const texts = map.tokens.map(([text]) => text);
    const step = size / texts.length;
    if (edge) writeAxes(pen, texts, edge, step, ink("--muted"));
    return { pen, edge, size, step };
  }

  function drawOwnMatrix(where, map, room) {
    const { pen, edge, size, step } = drawMatrix(where, map, room);
    const start = (token) => edge + token * step;
    for (const [from, to, here, beside] of differencesOf(view))
      outline(pen, [start(to), start(from), step, step], changeInk(ink, here, beside));
    if (get("query") < 0) return;
    outline(pen, [edge, start(get("query")), size, step], ink("--ink"), 1);
    if (get("key") >= 0) outline(pen, [start(get("key")), edge, step, size], ink("--ink"), 1);
  }

  function matrixAt(event) {
    const edge = marginOf(get("tokens"));
    const side = canvas.clientWidth - edge;
    const count = get("tokens").length;
    const cell = cellUnder(event, [count, count], [edge, edge, side, side]);
    return cell ? { said: pairSaid(...cell), pins: { query: cell[0], key: cell[1] } } : {};
  }

  // --- lines: tokens on the left look at tokens on the right
  function drawLines(where, map, room) {
    const count = map.tokens.length;
    const width = Math.min(room, 520);
    const pen = penOf(where, width, count * LINE + 8);
    const from = looking >= 0 ? looking : get("query");
    const rows = from >= 0 ? [from] : count <= 60 ? range(count) : [];
    writeTokens(pen, map.tokens, width, from);
    const usual = ink("--accent-ink");
    for (const start of rows) {
      for (const end of range(count)) drawLine(pen, width, start, end, map.weight(start, end), usual);
    }
    for (const [start, end, ...both] of differencesOf(view))
      if (rows.includes(start))
        drawLine(pen, width, start, end, map.weight(start, end), changeInk(ink, ...both), true);
    const [query, key] = [get("query"), get("key")];
    if (rows.includes(query) && key >= 0)
      drawLine(pen, width, query, key, map.weight(query, key), ink("--random"), true);
    if (!rows.length) tip.textContent = MANY;
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

  function drawLine(pen, width, start, end, weight, color, pinned = false) {
    if (weight < 0.01 && !pinned) return;
    const [from, to] = [start * LINE + 14, end * LINE + 14];
    pen.globalAlpha = pinned ? 1 : Math.min(1, weight);
    straightLine(pen, [width * 0.3, from], [width * 0.7, to], color, 0.5 + 3.5 * weight + (pinned ? 1 : 0));
  }

  function lineAt({ offsetX, offsetY }) {
    const token = within(Math.floor(offsetY / LINE), 0, get("tokens").length - 1);
    if (offsetX > canvas.clientWidth / 2) return { pins: pinOf(view, "key", token) };
    const weights = range(get("tokens").length).map((to) => [exact.weight(token, to), to]);
    const seen = weights.filter(([weight]) => weight || !switches(view));
    const best = seen.sort((a, b) => b[0] - a[0]).slice(0, 3);
    const list = best.map(([weight, to]) => `${nameOf(to)} ${percent(weight)}`).join(", ");
    return {
      said: `${nameOf(token)} looks at ${list || "what is left out here"}`,
      pins: pinOf(view, "query", token),
      looks: token,
    };
  }

  // --- the mouse: previews a token, a click pins it
  const nameOf = (token) => `“${isolated(get("tokens")[token][0])}”`;
  const pairSaid = (from, to) => {
    const written = (map) =>
      map.weight(from, to) || !switches(view) ? percent(map.weight(from, to)) : LEFT_OUT;
    const also = beside ? `, beside it ${written(beside)}` : "";
    return `${nameOf(from)} looks at ${nameOf(to)}: ${written(exact)}${also}`;
  };

  const under = (event) => (get("view") === "matrix" ? matrixAt : lineAt)(event);
  canvas.onmousemove = (event) => {
    pointed = event;
    const { said, looks = looking } = under(event);
    if (looks !== looking || previewed) {
      looking = looks;
      preview(null);
    }
    if (said) tip.textContent = said;
  };
  canvas.onmouseleave = () => {
    pointed = null;
    tip.textContent = "";
    looking = -1;
    drawMaps();
  };
  canvas.onclick = (event) => send(under(event).pins ?? {});

  // --- drawing
  function drawMaps() {
    all.hidden = over() !== null;
    if (maps) maps.node.hidden = !over();
    if (over()) return over().draw();
    const drawOwn = get("view") === "matrix" ? drawOwnMatrix : drawLines;
    const { tokens, title, own } = get("compared");
    otherPlace.hidden = !tokens; // both share the room
    canvas.dataset.view = get("view");
    drawOwn(canvas, previewed ?? exact, roomOf(place));
    ownTitle.textContent = own ?? "";
    if (!tokens) return;
    otherTitle.textContent = title;
    if (beside) drawOwn(other, beside, roomOf(otherPlace));
    else drawMatrix(other, whole(tokens, "compared_"), roomOf(otherPlace));
  }

  function preview(map) {
    previewed = map;
    drawMaps();
  }
  drawn(() => {
    exact = whole(get("tokens"));
    beside = get("other") ? whole(get("tokens"), "compared_") : null;
    looking = -1;
    tip.textContent = (pointed && under(pointed).said) ?? "";
    drawMaps();
  });
  return { nodes, preview, over };
}

// --- the answer

function answerOf(view) {
  const { get, drawn } = view;
  const bars = view.live("div.answers", () => {
    const [off, told] = [get("off").length, get("ticks")];
    const count = off > 0 && `${off} of ${get("layers") * get("heads")} heads are off. `;
    const tick = told && get("problem_type") !== "regression" && `The tick is the answer ${told}.`;
    return [...view.bars(get("answers"), told && `${told}:`), note(count, tick)];
  });
  const task = view.select("task", "Answer of", () => get("tasks"));
  const node = element("section.part.answer", { "aria-label": "The model's answer" }, task, bars);
  drawn(() => {
    node.hidden = !get("tasks").length;
  });
  return node;
}

// --- the pinned pair, step by step

function stepsOf(view) {
  const { get, drawn } = view;
  const parts = ["query", "key", "product"];
  const vectors = () => parts.map((name) => get("steps")[name]);
  const said = told();
  const block = rowsOf(view, "The query, the key and their products, on one scale", (row, column) => {
    const number = row === undefined ? "" : fixed(vectors()[row][column], 3);
    said.textContent = number && `${parts[row]}, number ${column + 1}: ${number}`;
  });
  const title = element("h4");
  const sum = note();
  const label = { "aria-label": "How this weight comes about" };
  const node = element("section.part.steps", label, title, block.node, said, sum);
  drawn(() => {
    const { query, score, scaled, exponential, total, probability } = get("steps");
    node.hidden = !query;
    if (!query) return;
    const [from, to] = [get("query"), get("key")].map((token) => isolated(get("tokens")[token][0]));
    const off = has(get("off"), [get("layer"), get("head")]);
    const comes = `${off ? "would come" : "comes"} to look at “${to}” with ${percent(probability)}`;
    title.textContent = `How “${from}” ${comes}${off ? ", were this head not switched off" : ""}`;
    block.draw(vectors(), [`query of “${from}”`, `key of “${to}”`, "product"].map(named));
    sum.textContent =
      `Sum of the products ${fixed(score, 2)}, divided by √${query.length}: ${fixed(scaled, 2)}. ` +
      `Softmax: e to that, ${exponential.toPrecision(3)}, over the sum for all ${get("tokens").length} ` +
      `tokens, ${total.toPrecision(3)}: ${percent(probability)}. ` +
      "Blue is positive, orange negative; the mouse shows the numbers.";
  });
  return node;
}

// --- the view

function render({ model, el }) {
  const view = viewOf(model, el, "attention-explorer");
  const { get, send } = view;
  const patches = get("grid").length > 0;
  const pick = (query) => pinOf(view, "query", query);
  const marked = ([, to, ...both]) => [to - get("prefix"), changeInk(view.ink, ...both)];
  const marks = () => get("patch_differences").map(marked);
  const maps = patches ? mapBoards(view, { choose: (query) => send(pick(query)), marks }) : null;
  const large = largeOf(view, maps);
  const heads = headsOf(view, large);
  const texts = { text: "Text", second: "Second text (optional)" };
  const fields = () => Object.entries(texts).map(([trait, label]) => view.textField(trait, label).node);
  const one = [...controlsOf(view, maps), ...large.nodes];
  view.content.append(
    ...stripOf(view, { layersFrom: 1, pick }),
    note(patches ? HELP_ON_PATCHES : HELP),
    patches ? pictureInput(view) : columns("1fr 1fr", fields()),
    columns("5fr 6fr", heads.node, element("section.one", { "aria-label": "One map, large" }, one)),
    stepsOf(view),
    answerOf(view),
  );
  const traits = ["view", "opacity", "smooth"];
  return view.show({ traits, heard: heads.heard });
}

export default { render };
