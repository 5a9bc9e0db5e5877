// PatchAttention: maps over a picture, all heads as small maps, how far they look, and the test of a map.
// See patch_attention.py for the traits.

import { plot } from "./drawing.js";
import { mapTest } from "./map_test.js";
import { columns, note, numbered, row, viewOf } from "./parts.js";
import { inPercent, mapBoards, massSlider, pictureInput } from "./picture.js";
import { element, range, readFloat16 } from "./shared.js";
import { stripOf } from "./strip.js";

const METHODS = {
  head: "one head",
  mean: "mean of heads",
  max: "max of heads",
  rollout: "rollout",
  relevance: "relevance",
};
const HELP =
  "All layers (down) and heads (across), for the token that looks. Move over one to preview it, " +
  "click to pin it.";
const MEASURES = [
  ["attention", "attention received"],
  ["norm", "norm of the output"],
  ["nothing", "nothing"],
];

function render({ model, el }) {
  const view = viewOf(model, el, "patch-attention");
  const { get, send, drawn } = view;
  const [layers, heads] = ["layers", "heads"].map(get);
  const input = pictureInput(view);
  let hovered = null; // [layer, head] under mouse or cursor, previewed

  // --- which map, and how it looks
  const method = view.choice("method", "What the large map is", METHODS);
  const token = view
    .with({ get: () => get("query") === 0, send: () => send({ query: 0 }) })
    .toggle("query", "Class token looks");
  const labels = [...get("labels").entries()];
  const best = () => {
    const [answer] = get("classes");
    const written = answer && `: ${labels[answer[0]][1]}, ${view.write(answer[1])}`;
    return [[-1, `the best${written ?? ""}`], ...labels];
  };
  const also = { method: "head" };
  const fields = {
    layer: view.select("layer", "layer", numbered(layers)),
    head: view.select("head", "head", numbered(heads), { also }),
    fusion: view.select("fusion", "heads by", ["mean", "max", "min"]),
    discard: view.slider("discard", "leave out the smallest", [0, 0.95, 0.05], { show: inPercent }),
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
      target: now === "relevance",
      second: now === "relevance",
      times: get("measure") !== "nothing",
    };
    for (const [name, field] of Object.entries(fields)) field.hidden = !shown[name];
    method.lastChild.disabled = !get("classes").length;
  });
  const { times, ...ofMap } = fields;
  const flagged = view.live("span.note", () =>
    get("measure") === "nothing" ? null : `${get("outliers").length} flagged`,
  );

  // --- the maps over the picture
  const maps = mapBoards(view, {
    // Relevance is of the class token alone: another one that looks is looked at through a head.
    choose: (query) => send(get("method") === "relevance" ? { query, method: "head" } : { query }),
    more(patch) {
      const [rows, columns] = get("grid");
      const [received, norm] = readFloat16(get("ratios"), rows * columns).map((row) => row[patch].toFixed(1));
      return `; attention received ${received} × the median, norm of its output ${norm} ×`;
    },
    marks: () => get("outliers").map((patch) => [patch, "#00b7ff"]),
  });
  const test = mapTest(view, maps.picture, view.select("target", "for the class", best));

  // --- all heads, and how far they look
  const isChosen = ([layer, head]) => {
    if (layer !== get("layer")) return false;
    return get("method") === "head" ? head === get("head") : ["mean", "max"].includes(get("method"));
  };
  const small = view.headGrid({
    most: 64,
    key: () => [get("maps")],
    picture: maps.small,
    under: maps.under,
    isChosen,
    describe([layer, head]) {
      const far = distances()[layer][head].toFixed(0);
      return `layer ${layer + 1}, head ${head + 1}: looks ${far} pixels far on average`;
    },
    hover(place) {
      hovered = place;
      maps.preview(place);
      drawFar();
    },
    choose: ([layer, head]) => send({ layer, head, method: "head" }),
  });
  const far = element("div");
  const distances = () => readFloat16(get("distances"), heads);

  function drawFar() {
    const rows = distances();
    const x = (layer) => (layer + 0.5) / rows.length;
    const isMarked = (place) => (hovered ? String(hovered) === String(place) : isChosen(place));
    const look = (place) => (isMarked(place) ? ["base", 5] : ["main", 3]);
    const dot = (value, layer, head) => [x(layer), value, ...look([layer, head])];
    const dots = rows.flatMap((row, layer) => row.map((value, head) => dot(value, layer, head)));
    const ends = rows.map((row, layer) => {
      const [least, most] = [Math.min(...row), Math.max(...row)].map((value) => value.toFixed(0));
      return `layer ${layer + 1}: ${least} to ${most} pixels`;
    });
    const named = range(rows.length).filter((layer) => rows.length <= 12 || layer % 2 === 0);
    const drawn = plot({
      label: `Mean attention distance, from the nearest to the farthest head: ${ends.join("; ")}`,
      width: 460,
      height: 150,
      most: 20 * Math.ceil(Math.max(...rows.flat(), 1) / 20),
      show: (value) => value.toFixed(0),
      below: Object.fromEntries(named.map((layer) => [x(layer), layer + 1])),
      dots: dots.sort((one, other) => one[3] - other[3]), // what is marked lies on top
    });
    far.replaceChildren(drawn);
  }

  // --- all of it
  view.content.append(
    ...stripOf(view, { layersFrom: 1, pick: (query) => ({ query }) }),
    input,
    note("Click a patch: it becomes the one that looks, and all maps change. Nothing is run again for that."),
    columns(
      "6fr 5fr",
      element(
        "section.attention-main",
        { "aria-label": "The map over the picture" },
        method,
        row(token, ...Object.values(ofMap), massSlider(view)),
        maps.node,
        row(view.select("measure", "flag patches by", MEASURES), times, flagged),
      ),
      element(
        "section.attention-side",
        { "aria-label": "All heads of all layers" },
        note(HELP),
        small.canvas,
        small.told,
        note("How far each head looks on average, in pixels, by layer:"),
        far,
      ),
    ),
    test.node,
  );
  drawn(() => {
    maps.draw();
    small.draw();
    drawFar();
  });
  return view.show({ traits: ["tests", "opacity", "smooth"], heard: test.heard });
}

export default { render };
