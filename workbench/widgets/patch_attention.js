// PatchAttention: maps over a picture, all heads as small maps, how far they look, and the test of a map.
// See patch_attention.py for the traits.

import { mapTest } from "./map_test.js";
import {
  button,
  choice,
  headGrid,
  inkOf,
  note,
  outline,
  pixels,
  plot,
  rgbOf,
  select,
  slider,
} from "./parts.js";
import { patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { answerWriter, element, frame, percent, range, readFloat16, within } from "./shared.js";

const METHODS = {
  head: "one head",
  mean: "mean of heads",
  max: "max of heads",
  rollout: "rollout",
  relevance: "relevance",
};
const MEASURES = [
  ["attention", "attention received"],
  ["norm", "norm of the output"],
  ["nothing", "nothing"],
];
// Evenly spaced colours, from nothing to most.
const PALETTES = {
  magma: ["#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf"],
  viridis: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
  light: ["#000000", "#ffffff"],
};

const same = (names) => names.map((name) => [name, name]);
const numbered = (count) => range(count).map((at) => [at, at + 1]);
const wholePercent = (share) => `${Math.round(100 * share)} %`;

function render({ model, el }) {
  const view = frame(model, el, "patch-attention");
  const { root, content, get, set, send } = view;
  const layers = get("layers");
  const heads = get("heads");
  const ink = inkOf(root);
  const grid = () => (get("grid").length ? get("grid") : [1, 1]);
  const picture = pictureOf(view, () => {
    drawBoards();
    test.drawHidden();
  });
  const input = pictureInput(view);
  const test = mapTest({ ...view, picture });
  const palettes = Object.fromEntries(
    Object.entries(PALETTES).map(([name, colors]) => [name, colors.map(rgbOf)]),
  );
  let hovered = null; // [layer, head] under mouse or cursor, previewed
  let kept = {}; // small maps

  // How it looks is nothing that Python computes.
  const look = (values) => {
    set(values);
    draw();
  };

  // --- which map
  const method = choice("What the large map is", METHODS, (value) => send({ method: value }));
  const token = button("Class token looks", () => send({ query: 0 }));
  const [layerField, layer] = select("layer", numbered(layers), (value) => send({ layer: +value }));
  const [headField, head] = select("head", numbered(heads), (value) =>
    send({ head: +value, method: "head" }),
  );
  const [fusionField, fusion] = select("heads by", same(["mean", "max", "min"]), (value) =>
    send({ fusion: value }),
  );
  const discard = slider(
    "leave out the smallest",
    [0, 0.95, 0.05],
    (value) => send({ discard: value }),
    wholePercent,
  );
  const labels = [...get("labels").entries()];
  const [targetField, target] = select("class", [[-1, "the best"], ...labels], (value) =>
    send({ target: +value }),
  );
  const [secondField, second] = select("beside it", [[-1, "nothing"], ...labels], (value) =>
    send({ second: +value }),
  );
  const mass = slider("keep what makes up", [0.1, 1, 0.05], (value) => send({ mass: value }), wholePercent);

  // --- the maps over the picture
  const boards = range(2).map((which) => {
    const title = element("figcaption");
    const board = patchBoard({
      label:
        `Map ${which + 1} over the picture. Arrow keys move over the patches, ` +
        "Enter makes one the patch that looks.",
      grid,
      at: (patch) => tell(which, patch),
      click: lookFrom,
      paint: (pen, width, height, now) => paintMap(which, pen, width, height, now),
    });
    return { ...board, title, figure: element("figure.attention-board", title, board.node) };
  });
  const tip = element("p.note.told", { "aria-live": "polite" });
  const opacity = slider("opacity", [0, 1, 0.05], (value) => look({ opacity: value }), wholePercent);
  const [paletteField, palette] = select("colours", same(Object.keys(PALETTES)), (value) =>
    look({ palette: value }),
  );
  const smooth = button("interpolated", () => look({ smooth: !get("smooth") }));
  const [measureField, measure] = select("flag patches by", MEASURES, (value) => send({ measure: value }));
  const times = slider("times the median", [1.5, 10, 0.5], (value) => send({ times: value }), String);
  const flagged = element("span.note");

  // --- all heads, and how far they look
  const small = headGrid({
    layers,
    heads,
    most: 64,
    cursor: [Math.max(0, get("layer")), get("head")],
    paint: paintHead,
    hover: preview,
    choose: ([layer, head]) => send({ layer, head, method: "head" }),
  });
  const told = element("p.note.told", { "aria-live": "polite" });
  const far = element("div");

  const rows = [
    [token, layerField, headField, fusionField, discard.node, targetField, secondField, mass.node],
    [opacity.node, paletteField, smooth],
    [measureField, times.node, flagged],
  ].map((fields) => element("p.bar-row", ...fields));
  content.append(
    input.node,
    note("Click a patch: it becomes the one that looks, and all maps change. Nothing is run again for that."),
    element(
      "div.columns",
      element(
        "section.attention-main",
        { "aria-label": "The map over the picture" },
        method.node,
        rows[0],
        element("div.attention-boards", ...boards.map((board) => board.figure)),
        tip,
        rows[1],
        rows[2],
      ),
      element(
        "section.attention-side",
        { "aria-label": "All heads of all layers" },
        note(
          "All layers (down) and heads (across), for the token that looks. Move over one to preview it, ",
          "click to pin it.",
        ),
        small.canvas,
        told,
        note("How far each head looks on average, in pixels, by layer:"),
        far,
      ),
    ),
    test.node,
  );

  // --- colours
  function shade(value) {
    const stops = palettes[get("palette")];
    const at = within(value, 0, 0.9999) * (stops.length - 1);
    const from = Math.floor(at);
    return stops[from].map((part, index) => part + (stops[from + 1][index] - part) * (at - from));
  }

  // Over the picture the palette "light" darkens what has no weight.
  const overlay = (value) =>
    get("palette") === "light" ? [0, 0, 0, 255 * (1 - value)] : [...shade(value), 255];

  // --- the large maps
  const weightOf = (which) => (patch) => get("large").getUint8(which * grid()[0] * grid()[1] + patch) / 255;
  const weightOfHead = (layer, head) => {
    const [rows, columns] = get("cells");
    return (cell) => get("maps").getUint8((layer * heads + head) * rows * columns + cell) / 255;
  };

  function paintMap(which, pen, width, height, now) {
    if (!get("large").byteLength) return;
    const area = (patch) => patchArea(patch, grid(), width, height);
    const previewed = which === 0 && hovered;
    const size = previewed ? get("cells") : grid();
    const weight = previewed ? weightOfHead(...hovered) : weightOf(which);
    if (picture.ready()) pen.drawImage(picture.image, 0, 0, width, height);
    pen.imageSmoothingEnabled = get("smooth");
    pen.globalAlpha = get("opacity");
    pen.drawImage(
      pixels(...size, (at) => overlay(weight(at))),
      0,
      0,
      width,
      height,
    );
    pen.globalAlpha = 1;
    pen.setLineDash([4, 3]);
    for (const patch of get("outliers")) outline(pen, area(patch), "#ff5f52");
    pen.setLineDash([]);
    const query = get("query") - get("prefix");
    if (query >= 0 && get("method") !== "relevance") {
      outline(pen, area(query), "#000", 4);
      outline(pen, area(query), "#fff", 2);
    }
    if (now >= 0) outline(pen, area(now), ink("--accent"), 3);
  }

  // Relevance is of the class token alone: another one that looks is looked at through a head.
  function lookFrom(patch) {
    const query = patch + get("prefix");
    send(get("method") === "relevance" ? { query, method: "head" } : { query });
  }

  function tell(which, patch) {
    tip.textContent = "";
    if (patch < 0) return;
    const [columns, count] = [grid()[1], grid()[0] * grid()[1]];
    const [received, norm] = readFloat16(get("ratios"), count).map((row) => row[patch].toFixed(1));
    const weight = weightOf(which)(patch) * get("tops")[which];
    const share = get("method") === "relevance" ? `relevance ${weight.toPrecision(2)}` : percent(weight);
    const place = `patch ${Math.floor(patch / columns) + 1}, ${(patch % columns) + 1}`;
    const ratios = `attention received ${received} × the median, norm of its output ${norm} ×`;
    tip.textContent = `${place}: ${share}; ${ratios}`;
  }

  function drawBoards() {
    for (const [which, { figure, title, draw }] of boards.entries()) {
      figure.hidden = which >= get("titles").length;
      title.textContent = get("titles")[which] ?? "";
      if (!figure.hidden) draw();
    }
  }

  // --- the small maps, kept until other ones or other colours come
  function pictureOfHead(layer, head) {
    const [bytes, colors] = [get("maps"), get("palette")];
    if (kept.bytes !== bytes || kept.colors !== colors) kept = { bytes, colors, pictures: {} };
    const place = `${layer} ${head}`;
    const weight = weightOfHead(layer, head);
    kept.pictures[place] ??= pixels(...get("cells"), (cell) => [...shade(weight(cell)), 255]);
    return kept.pictures[place];
  }

  function isChosen(layer, head) {
    if (layer !== (get("layer") < 0 ? layers - 1 : get("layer"))) return false;
    return get("method") === "head" ? head === get("head") : ["mean", "max"].includes(get("method"));
  }

  function paintHead(pen, layer, head, area) {
    pen.drawImage(pictureOfHead(layer, head), ...area);
    if (isChosen(layer, head)) outline(pen, area, ink("--ink"), 3);
  }

  function preview(place) {
    hovered = place;
    told.textContent = "";
    if (place) {
      const pixelsFar = readFloat16(get("distances"), heads)[place[0]][place[1]].toFixed(0);
      const name = `layer ${place[0] + 1}, head ${place[1] + 1}`;
      told.textContent = `${name}: looks ${pixelsFar} pixels far on average`;
    }
    boards[0].draw();
    drawFar();
  }

  function drawFar() {
    const rows = readFloat16(get("distances"), heads);
    const place = (layer) => (layer + 0.5) / rows.length;
    const isMarked = (layer, head) =>
      hovered ? String(hovered) === String([layer, head]) : isChosen(layer, head);
    const dot = (layer, head) =>
      isMarked(layer, head)
        ? [place(layer), rows[layer][head], "base", 5]
        : [place(layer), rows[layer][head], "main", 3];
    const ends = rows.map((row, layer) => {
      const [least, most] = [Math.min(...row), Math.max(...row)].map((value) => value.toFixed(0));
      return `layer ${layer + 1}: ${least} to ${most} pixels`;
    });
    const drawn = plot({
      label: `Mean attention distance, from the nearest to the farthest head: ${ends.join("; ")}`,
      width: 460,
      height: 150,
      most: 1.08 * Math.max(...rows.flat(), 1),
      show: (value) => value.toFixed(0),
      below: range(rows.length).map((layer) => [place(layer), layer + 1, "middle"]),
      dots: rows.flatMap((row, layer) => range(row.length).map((head) => dot(layer, head))),
    });
    far.replaceChildren(drawn);
  }

  // --- all of it
  function drawControls() {
    const now = get("method");
    method.draw(now);
    method.buttons.at(-1).disabled = !get("classes").length;
    token.setAttribute("aria-pressed", get("query") === 0);
    smooth.setAttribute("aria-pressed", get("smooth"));
    layerField.hidden = !["head", "mean", "max"].includes(now);
    headField.hidden = now !== "head";
    fusionField.hidden = now !== "rollout";
    discard.node.hidden = now !== "rollout";
    targetField.hidden = !get("classes").length;
    secondField.hidden = now !== "relevance";
    times.node.hidden = get("measure") === "nothing";
    layer.value = get("layer") < 0 ? layers - 1 : get("layer");
    for (const [name, control] of Object.entries({ head, fusion, target, second, palette, measure }))
      control.value = get(name);
    for (const [name, part] of Object.entries({ discard, mass, opacity, times })) part.draw(get(name));
    flagged.textContent = get("measure") === "nothing" ? "" : `${get("outliers").length} flagged`;
    const [best] = get("classes");
    target.options[0].textContent = best
      ? `the best: ${get("labels")[best[0]]}, ${answerWriter(get("problem_type"))(best[1])}`
      : "the best";
  }

  function draw() {
    picture.refresh();
    input.draw();
    drawControls();
    resized();
    test.draw();
  }
  function resized() {
    drawBoards();
    small.draw();
    drawFar();
  }

  return view.show(draw, { traits: ["tests"], resized, heard: test.heard, end: picture.stop });
}

export default { render };
