// PatchAttention: maps over a picture, all heads as small maps, how far they look, and the test of a map.
// See patch_attention.py for the traits.

import { mapTest } from "./map_test.js";
import { note, numbered, outline, pixels, plot, rgbOf, viewOf } from "./parts.js";
import { patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { answerWriter, element, percent, range, readFloat16, within } from "./shared.js";

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
const show = (share) => `${Math.round(100 * share)} %`;

function render({ model, el }) {
  const view = viewOf(model, el, "patch-attention");
  const { get, send, ink, drawn, looks } = view;
  const [layers, heads] = ["layers", "heads"].map(get);
  const grid = () => (get("grid").length ? get("grid") : [1, 1]);
  const layerNow = () => (get("layer") < 0 ? layers - 1 : get("layer"));
  const picture = pictureOf(view, () => {
    drawBoards();
    test.drawHidden();
  });
  const input = pictureInput(view);
  const test = mapTest(view, picture);
  const palettes = Object.entries(PALETTES).map(([name, colors]) => [name, colors.map(rgbOf)]);
  const stopsOf = Object.fromEntries(palettes);
  let hovered = null; // [layer, head] under mouse or cursor, previewed

  // --- which map, and how it looks
  const method = view.choice("method", "What the large map is", METHODS);
  const token = view
    .with({ get: () => get("query") === 0, send: () => send({ query: 0 }) })
    .toggle("query", "Class token looks");
  const labels = [...get("labels").entries()];
  const best = () => {
    const [answer] = get("classes");
    const written = answer && `: ${labels[answer[0]][1]}, ${answerWriter(get("problem_type"))(answer[1])}`;
    return [[-1, `the best${written ?? ""}`], ...labels];
  };
  const also = { method: "head" };
  const fields = {
    layer: view.select("layer", "layer", numbered(layers), { value: layerNow }),
    head: view.select("head", "head", numbered(heads), { also }),
    fusion: view.select("fusion", "heads by", ["mean", "max", "min"]),
    discard: view.slider("discard", "leave out the smallest", [0, 0.95, 0.05], { show }),
    target: view.select("target", "class", best),
    second: view.select("second", "beside it", [[-1, "nothing"], ...labels]),
    times: view.slider("times", "times the median", [1.5, 10, 0.5], { show: String }),
  };
  drawn(() => {
    const now = get("method");
    const shown = {
      layer: ["head", "mean", "max"].includes(now),
      head: now === "head",
      fusion: now === "rollout",
      discard: now === "rollout",
      target: get("classes").length > 0,
      second: now === "relevance",
      times: get("measure") !== "nothing",
    };
    for (const [name, field] of Object.entries(fields)) field.hidden = !shown[name];
    method.lastChild.disabled = !get("classes").length;
  });
  const { times, ...ofMap } = fields;
  const mass = view.slider("mass", "keep what makes up", [0.1, 1, 0.05], { show });
  const flagged = view.live("span.note", () =>
    get("measure") === "nothing" ? null : `${get("outliers").length} flagged`,
  );

  // --- the maps over the picture
  const boards = range(2).map((which) => {
    const board = patchBoard({
      label:
        `Map ${which + 1} over the picture. Arrow keys move over the patches, ` +
        "Enter makes one the patch that looks.",
      grid,
      at: (patch) => tell(which, patch),
      click: lookFrom,
      paint: (pen, width, height, now) => paintMap(which, pen, width, height, now),
    });
    const title = view.live("figcaption", () => get("titles")[which] ?? "");
    return { ...board, figure: element("figure.attention-board", title, board.node) };
  });
  const tip = element("p.note.told", { "aria-live": "polite" });

  // Over the picture the palette "light" darkens what has no weight.
  const overlay = (value) =>
    get("palette") === "light" ? [0, 0, 0, 255 * (1 - value)] : [...shade(value), 255];

  function shade(value) {
    const stops = stopsOf[get("palette")];
    const at = within(value, 0, 0.9999) * (stops.length - 1);
    const from = Math.floor(at);
    return stops[from].map((part, index) => part + (stops[from + 1][index] - part) * (at - from));
  }

  const weightOf = (which) => (patch) => get("large").getUint8(which * grid()[0] * grid()[1] + patch) / 255;
  const weightOfHead = ([layer, head]) => {
    const [rows, columns] = get("cells");
    return (cell) => get("maps").getUint8((layer * heads + head) * rows * columns + cell) / 255;
  };

  function paintMap(which, pen, width, height, now) {
    if (!get("large").byteLength) return;
    const area = (patch) => patchArea(patch, grid(), width, height);
    const previewed = which === 0 && hovered;
    const size = previewed ? get("cells") : grid();
    const weight = previewed ? weightOfHead(hovered) : weightOf(which);
    const map = pixels(...size, (at) => overlay(weight(at)));
    if (picture.ready()) pen.drawImage(picture.image, 0, 0, width, height);
    pen.imageSmoothingEnabled = get("smooth");
    pen.globalAlpha = get("opacity");
    pen.drawImage(map, 0, 0, width, height);
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
    for (const [which, { figure, draw }] of boards.entries()) {
      figure.hidden = which >= get("titles").length;
      if (!figure.hidden) draw();
    }
  }

  // --- all heads, and how far they look
  const isChosen = ([layer, head]) => {
    if (layer !== layerNow()) return false;
    return get("method") === "head" ? head === get("head") : ["mean", "max"].includes(get("method"));
  };
  const small = view.headGrid({
    most: 64,
    key: () => [get("maps"), get("palette")],
    picture(place) {
      const weight = weightOfHead(place);
      return pixels(...get("cells"), (cell) => [...shade(weight(cell)), 255]);
    },
    isChosen,
    hover: preview,
    choose: ([layer, head]) => send({ layer, head, method: "head" }),
  });
  const told = element("p.note.told", { "aria-live": "polite" });
  const far = element("div");
  const distances = () => readFloat16(get("distances"), heads);

  function preview(place) {
    hovered = place;
    told.textContent = "";
    if (place) {
      const pixelsFar = distances()[place[0]][place[1]].toFixed(0);
      const name = `layer ${place[0] + 1}, head ${place[1] + 1}`;
      told.textContent = `${name}: looks ${pixelsFar} pixels far on average`;
    }
    boards[0].draw();
    drawFar();
  }

  function drawFar() {
    const rows = distances();
    const x = (layer) => (layer + 0.5) / rows.length;
    const isMarked = (place) => (hovered ? String(hovered) === String(place) : isChosen(place));
    const dot = (value, layer, head) => [
      x(layer),
      value,
      ...(isMarked([layer, head]) ? ["base", 5] : ["main", 3]),
    ];
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
      below: range(rows.length).map((layer) => [x(layer), layer + 1, "middle"]),
      dots: rows.flatMap((row, layer) => row.map((value, head) => dot(value, layer, head))),
    });
    far.replaceChildren(drawn);
  }

  // --- all of it
  view.content.append(
    input,
    note("Click a patch: it becomes the one that looks, and all maps change. Nothing is run again for that."),
    element(
      "div.columns",
      element(
        "section.attention-main",
        { "aria-label": "The map over the picture" },
        method,
        element("p.bar-row", token, ...Object.values(ofMap), mass),
        element("div.attention-boards", ...boards.map((board) => board.figure)),
        tip,
        element(
          "p.bar-row",
          looks.slider("opacity", "opacity", [0, 1, 0.05], { show }),
          looks.select("palette", "colours", Object.keys(PALETTES)),
          looks.toggle("smooth", "interpolated"),
        ),
        element("p.bar-row", view.select("measure", "flag patches by", MEASURES), times, flagged),
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
  const resized = () => {
    drawBoards();
    small.draw();
    drawFar();
  };
  drawn(resized);
  const traits = ["tests", "opacity", "palette", "smooth"];
  return view.show({ traits, resized, heard: test.heard, end: picture.stop });
}

export default { render };
