// Is a map true? Its top patches are hidden, and uncovered, step by step: what PatchAttention draws of its
// trait `tests`, of which the latest comes last.

import { button, inkOf, penOf, plot, slider } from "./parts.js";
import { patchArea } from "./picture.js";
import { answerWriter, element, percent } from "./shared.js";

const COLUMNS = ["map", "class", "deletion area", "insertion area", "random area (lowest to highest)"];

function verdictOn(deletionSpeaks, insertionSpeaks) {
  if (deletionSpeaks && insertionSpeaks) return "Both tests speak for this map: it beats every random order.";
  if (!deletionSpeaks && !insertionSpeaks)
    return "No better than chance: in both tests some random order does as well.";
  const one = deletionSpeaks ? "deletion" : "insertion";
  return `Only ${one} speaks for this map; in the other test some random order does as well.`;
}

// `picture` is what pictureOf gives. Gives { node, draw, drawHidden, heard }: drawHidden() when the picture
// is another, heard(message) for what Python tells meanwhile.
export function mapTest({ get, message, root, picture }) {
  const last = () => get("tests").at(-1);
  const write = (answer) => answerWriter(get("problem_type"))(answer);
  const run = button("Hide its top patches, step by step", () => message({ do: "test" }));
  const progress = element("progress", {
    max: 1,
    value: 0,
    hidden: true,
    "aria-label": "Progress of the test",
  });
  const hidden = element("canvas", { role: "img" });
  const step = slider(
    "hidden",
    [0, 12, 1],
    () => {
      drawHidden();
      drawCurves();
    },
    (at) => percent(last()?.shares[at] ?? 0),
  );
  step.draw(3);
  const curves = element("div.map-curves");
  const verdict = element("p.map-verdict", { "aria-live": "polite" });
  const rows = element("tbody");
  const names = COLUMNS.map((name) => element("th", { scope: "col" }, name));
  const table = element("table.map-table", element("thead", element("tr", ...names)), rows);
  const shown = element("div.map-shown", element("figure", hidden, step.node), curves);
  const results = element("div", shown, verdict, table);
  const title = element("p.group", element("b", "Is this map true?"), run, progress);
  const node = element("section.map-test", { "aria-label": "Is this map true?" }, title, results);

  // The curve of a test (in the map's order), and that of random orders beside it, at these places.
  function curve(name, what, values, places, area, baseArea, dots) {
    const { shares, deletion, insertion, random } = last();
    const points = (all, at) => all.map((value, step) => [at[step], value]);
    const label = `${name} curve: area ${area} in the map's order, ${baseArea} in random orders`;
    const heights = [...deletion, ...insertion, ...random];
    const drawn = plot({
      label,
      least: Math.min(...heights, 0),
      most: Math.max(...heights, 0.01),
      width: 380,
      height: 190,
      show: (value) => (value ? write(value) : "0"),
      below: [[0, `share of patches ${what} →`, "start"]],
      lines: [
        { kind: "base", points: points(random, places) },
        { kind: "main", points: points(values, shares) },
      ],
      dots,
    });
    const caption = `${name}: area ${area.toFixed(2)}, random (dashed) ${baseArea.toFixed(2)}`;
    return element("figure", element("figcaption.note", caption), drawn);
  }

  function drawCurves() {
    if (!last()) return;
    const { shares, deletion, insertion, areas } = last();
    const left = shares.map((share) => 1 - share); // in sight when so many are hidden
    const at = +step.control.value;
    const dot = [shares[at], deletion[at], "main", 6];
    curves.replaceChildren(
      curve("deletion", "hidden", deletion, shares, areas[0], areas[4], [dot]),
      curve("insertion", "shown", insertion, left, areas[1], areas[4], []),
    );
  }

  function drawHidden() {
    if (!last() || !picture.ready()) return;
    const { order, shares, deletion, label } = last();
    const grid = get("grid");
    const [width, height] = [200, (200 * grid[0]) / grid[1]];
    const pen = penOf(hidden, width, height);
    pen.drawImage(picture.image, 0, 0, width, height);
    pen.fillStyle = inkOf(root)("--soft");
    const at = +step.control.value;
    for (const patch of order.slice(0, Math.round(shares[at] * order.length)))
      pen.fillRect(...patchArea(patch, grid, width, height));
    const told = `The picture without its top ${percent(shares[at])} of patches`;
    hidden.setAttribute("aria-label", `${told}: “${label}” ${write(deletion[at])}`);
  }

  function row({ title, label, areas: [deleted, inserted, lowest, highest, mean] }) {
    const random = `${mean.toFixed(3)} (${lowest.toFixed(3)} to ${highest.toFixed(3)})`;
    const cells = [title, label, deleted.toFixed(3), inserted.toFixed(3), random];
    return element("tr", ...cells.map((text) => element("td", text)));
  }

  function draw() {
    run.disabled = !get("classes").length;
    progress.hidden = true;
    results.hidden = !last();
    if (!last()) return;
    const { title, label, hides, shows, shares, deletion } = last();
    step.control.max = shares.length - 1;
    step.draw(step.control.value);
    const start = `${title}; “${label}”, ${write(deletion[0])} with nothing hidden.`;
    verdict.textContent = `${start} ${verdictOn(hides, shows)}`;
    rows.replaceChildren(...get("tests").map(row));
    drawHidden();
    drawCurves();
  }

  const heard = ({ tested }) => {
    if (tested === undefined) return;
    progress.hidden = tested >= 1;
    progress.value = tested;
  };
  return { node, draw, drawHidden, heard };
}
