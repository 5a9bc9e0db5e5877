// PatchHiding: a picture whose patches are hidden and shuffled, its classes, and pictures kept beside it.
// See patch_hiding.py for the traits.

import { straightLine } from "./drawing.js";
import { button, columns, note, row, section, viewOf } from "./parts.js";
import { framePatches, patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { element, range } from "./shared.js";
import { stripOf } from "./strip.js";

const POSITIONS = [
  ["own", "each patch keeps its own"],
  ["place", "that of the new place"],
  ["none", "none at all"],
];

function render({ model, el }) {
  const view = viewOf(model, el, "patch-hiding");
  const { get, send, message, ask, saved, drawn, redraw } = view;
  const asks = (text, what) => button(text, () => message({ do: what }));
  const count = () => get("grid")[0] * get("grid")[1];
  const patchAt = (place) => get("order")[place] ?? place;
  const shuffled = () => get("order").length > 0;
  const changed = () => get("hidden").length > 0 || shuffled() || get("positions") !== "own";
  let brushed = null; // what is hidden while the brush is down
  let covers = true; // whether the brush hides or shows
  const own = { share: 50 }; // percent that are hidden at random

  // --- the picture
  const picture = pictureOf(view);
  const input = pictureInput(view);
  const board = patchBoard({
    label:
      "The picture in patches. Click or brush to hide patches and to show them again; " +
      "arrow keys move, Enter hides or shows.",
    grid: () => get("grid"),
    paint,
    most: 400,
    also: (place) => (get("hidden").includes(patchAt(place)) ? ", hidden" : ""),
    brush,
  });
  drawn(board.draw);
  const sum = view.live("p.note.sum", { "aria-live": "polite" }, () => {
    const seen = count() - get("hidden").length;
    return `${seen} of ${count()} patches in sight${shuffled() ? ", shuffled" : ""}`;
  });
  const random = button("", () => message({ do: "hide", share: own.share / 100 }));
  const shares = view.local(own).slider("share", "Share that is hidden at random", [5, 95, 5]);
  const [shuffle, reset] = [asks("Shuffle", "shuffle"), asks("Reset", "reset")];

  function brush(places, first) {
    if (!places.length) {
      brushed = null;
      return;
    }
    if (saved()) return ask();
    if (first) {
      brushed = new Set(get("hidden"));
      covers = !brushed.has(patchAt(places[0]));
    }
    for (const patch of places.map(patchAt)) {
      if (covers) brushed.add(patch);
      else brushed.delete(patch);
    }
    send({ hidden: [...brushed].sort((a, b) => a - b) });
    board.draw();
  }

  function paint(pen, width, height, now) {
    if (!picture.ready()) return;
    const grid = get("grid");
    const hidden = brushed ?? new Set(get("hidden"));
    for (const place of range(count())) {
      const area = patchArea(place, grid, width, height);
      picture.drawPatch(pen, patchAt(place), area);
      if (hidden.has(patchAt(place))) cover(pen, area);
    }
    framePatches(pen, grid, width, height, 0.3, now < 0 ? [] : [now]);
  }

  // Grey, with a stroke across, so that it is clear in grey pictures, too.
  function cover(pen, [x, y, width, height]) {
    pen.fillStyle = "rgba(110, 116, 124, 0.93)";
    pen.fillRect(x, y, width, height);
    straightLine(pen, [x, y + height], [x + width, y], "rgba(255, 255, 255, 0.55)", 1);
  }

  // --- its classes
  const regression = () => get("problem_type") === "regression";
  const title = view.live("h4", () => {
    const name = regression() ? "Number" : "Class";
    const { stage, depth } = get("drawer");
    return stage === "layer" ? `${name} read after layer ${depth}` : name;
  });
  const was = () => changed() && "with all patches in place:";
  const bars = view.live("div.bars", () => view.bars(get("bars"), was()));
  const tick = note("The tick is the probability with all patches in place.");
  const doubt = note("No class has half of the probability: the model is not sure.");
  const best = () => Math.max(...get("bars").map(([, answer]) => answer));
  drawn(() => {
    random.textContent = `Hide ${own.share} % at random`;
    reset.disabled = !changed();
    tick.classList.toggle("away", !changed() || regression());
    doubt.classList.toggle("away", best() >= 0.5 || get("problem_type") !== "single_label_classification");
    judge.hidden = !get("judges");
    forget.hidden = !get("kept").length;
  });

  // --- fifty others, and pictures kept
  const judge = asks("Judge on 50 held-out pictures", "judge");
  let soFar = null; // of a verdict that is on its way
  const verdict = view.live("p.note", { "aria-live": "polite" }, () => {
    const [done, total, whole, now] = soFar ?? get("judged");
    if (!done) return null;
    const asked = done < total ? `The first ${done} of ${total} pictures` : `${total} pictures`;
    return [
      `${asked} that nothing was learned from: ${whole} right with all patches in place, `,
      element("b", `${now} right`),
      " with the same patches hidden or moved.",
    ];
  });
  const forget = asks("Forget all kept", "forget");
  const kept = view.live("div.kept", { role: "group", "aria-label": "Kept pictures" }, () => {
    const figure = ({ name, picture, bars }) => {
      const image = element("img", { src: `data:image/png;base64,${picture}`, alt: name });
      return element("figure", image, element("figcaption.word", name), view.bars(bars));
    };
    return get("kept").length ? get("kept").map(figure) : null;
  });

  view.content.append(
    ...stripOf(view),
    note("Click or brush over patches to hide them: nobody in the encoder can look at them then."),
    input,
    columns(
      "1fr 1fr",
      section(
        "Picture",
        board.node,
        sum,
        element("p.group", random, shares, asks("Swap hidden and shown", "invert")),
        element("p.group", shuffle, view.select("positions", "Positions", POSITIONS), reset),
      ),
      element(
        "div",
        element("section.part", { "aria-label": "Classes" }, title, bars, tick, doubt),
        judge,
        verdict,
      ),
    ),
    row(asks("Keep to compare", "keep"), forget),
    kept,
  );
  const heard = ({ judged }) => {
    soFar = judged[0] < judged[1] ? judged : null;
    if (soFar) redraw();
  };
  return view.show({ heard });
}

export default { render };
