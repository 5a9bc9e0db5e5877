// Is a map true? Its top patches are hidden, and uncovered, step by step: what PatchAttention draws of its
// trait `tests`, of which the latest comes last.

import { penOf, plot } from "./drawing.js";
import { button, columns, progressBar, tableHead, tableRow } from "./parts.js";
import { patchArea } from "./picture.js";
import { element, percent } from "./shared.js";

const COLUMNS = ["map", "class", "deletion area", "insertion area", "random area (lowest to highest)"];

function verdictOn({ hides, shows }) {
  if (hides && shows) return "Both tests speak for this map: it beats every random order.";
  if (!hides && !shows) return "No better than chance: in both tests some random order does as well.";
  const one = hides ? "deletion" : "insertion";
  return `Only ${one} speaks for this map; in the other test some random order does as well.`;
}

// `picture` is what pictureOf gives, `target` chooses the class that is asked for. Gives { node, heard }:
// heard(message) for what Python tells meanwhile.
export function mapTest(view, picture, target) {
  const { get, message, ink, drawn, write } = view;
  const last = () => get("tests").at(-1);
  const own = { step: 3 }; // how many steps of patches are hidden

  const run = button("Hide its top patches, step by step", () => message({ do: "test" }));
  const progress = progressBar("Progress of the test");
  drawn(() => {
    run.disabled = !get("classes").length;
    target.hidden = run.disabled || get("method") === "relevance"; // which says its class above
    progress.hidden = true;
    const most = (last()?.shares.length ?? 13) - 1;
    own.step = Math.min(own.step, most);
    step.children[0].max = most;
  });
  const hidden = element("canvas", { role: "img" });
  const show = (now) => percent(last()?.shares[now] ?? 0);
  const step = view.local(own).slider("step", "hidden", [0, 12, 1], { show });
  const curves = view.live("div.map-curves.tiles", () => {
    if (!last()) return null;
    const { shares, deletion, insertion, areas } = last();
    const left = shares.map((share) => 1 - share); // in sight when so many are hidden
    const dot = [shares[own.step], deletion[own.step], "main", 6];
    return [
      curve("deletion", "hidden", deletion, shares, areas[0], [dot]),
      curve("insertion", "shown", insertion, left, areas[1], []),
    ];
  });
  const verdict = view.live("p.map-verdict", { "aria-live": "polite" }, () => {
    if (!last()) return null;
    const { title, label, deletion } = last();
    return `${title}; “${label}”, ${write(deletion[0])} with nothing hidden. ${verdictOn(last())}`;
  });
  const rows = view.live("tbody", () =>
    get("tests").map(({ title, label, areas }) => {
      const [deleted, inserted, lowest, highest, mean] = areas.map((area) => area.toFixed(3));
      return tableRow(title, label, deleted, inserted, `${mean} (${lowest} to ${highest})`);
    }),
  );
  const shown = columns("230px 1fr", element("figure.map-shown", hidden, step), curves);
  const table = element("table.lined.map-table", tableHead(...COLUMNS), rows);
  const title = element("p.group", element("b", "Is this map true?"), run, target, progress);
  const label = { "aria-label": "Is this map true?" };
  const node = element("section.part.map-test", label, title, shown, verdict, table);
  drawn(() => {
    shown.hidden = table.hidden = !last();
    drawHidden();
  });

  // The curve of a test (in the map's order), and that of random orders beside it, at these places.
  function curve(name, what, values, places, area, dots) {
    const { shares, deletion, insertion, random, areas } = last();
    const points = (all, at) => all.map((value, step) => [at[step], value]);
    const heights = [...deletion, ...insertion, ...random];
    const drawn = plot({
      label: `${name} curve: area ${area} in the map's order, ${areas[4]} in random orders`,
      least: Math.min(...heights, 0),
      most: Math.max(...heights, 0.01),
      width: 380,
      height: 190,
      show: (value) => (value ? write(value) : "0"),
      below: { 0: `share of patches ${what} →` },
      lines: { base: points(random, places), main: points(values, shares) },
      dots,
    });
    const caption = `${name}: area ${area.toFixed(2)}, random (dashed) ${areas[4].toFixed(2)}`;
    return element("figure", element("figcaption.note", caption), drawn);
  }

  function drawHidden() {
    if (!last() || !picture.ready()) return;
    const { order, shares, deletion, label } = last();
    const share = shares[own.step];
    const grid = get("grid");
    const [width, height] = [200, (200 * grid[0]) / grid[1]];
    const pen = penOf(hidden, width, height);
    pen.drawImage(picture.image, 0, 0, width, height);
    pen.fillStyle = ink("--soft");
    for (const patch of order.slice(0, Math.round(share * order.length)))
      pen.fillRect(...patchArea(patch, grid, width, height));
    const told = `The picture without its top ${percent(share)} of patches`;
    hidden.setAttribute("aria-label", `${told}: “${label}” ${write(deletion[own.step])}`);
  }

  const heard = ({ tested }) => {
    if (tested === undefined) return;
    progress.hidden = tested >= 1;
    progress.value = tested;
  };
  return { node, heard };
}
