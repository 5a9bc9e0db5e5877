// PatchHiding: a picture whose patches are hidden and shuffled, its classes, and pictures kept beside it.
// See patch_hiding.py for the traits.

import { bar, button, layerList, note, outline, part, select, slider } from "./parts.js";
import { patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { element, frame, range } from "./shared.js";

function render({ model, el }) {
  const view = frame(model, el, "patch-hiding");
  const { content, get, send, message, ask, saved } = view;
  const count = () => get("grid")[0] * get("grid")[1];
  const patchAt = (place) => get("order")[place] ?? place;
  let brushed = null; // what is hidden while the brush is down
  let covers = true; // whether the brush hides or shows

  // --- the picture
  const picture = pictureOf(view, () => board.draw());
  const input = pictureInput(view);
  const board = patchBoard({
    label:
      "The picture in patches. Click or brush to hide patches and to show them again; " +
      "arrow keys move, Enter hides or shows.",
    grid: () => get("grid"),
    paint,
    most: 400,
    brush,
  });
  const sum = element("p.note.sum", { "aria-live": "polite" });
  const share = slider("Share that is hidden at random", [5, 95, 5], (value) => {
    random.textContent = `Hide ${value} % at random`;
  });
  share.draw(50);
  const random = button("Hide 50 % at random", () =>
    message({ do: "hide", share: share.control.value / 100 }),
  );
  const invert = button("Swap hidden and shown", () => message({ do: "invert" }));
  const shuffle = button("Shuffle", () => message({ do: "shuffle" }));
  const reset = button("Reset", () => message({ do: "reset" }));
  const places = [
    ["own", "each patch keeps its own"],
    ["place", "that of the new place"],
    ["none", "none at all"],
  ];
  const [positionField, positions] = select("Positions", places, (value) => send({ positions: value }));

  // --- its classes
  const bars = element("div.bars");
  const classes = part("Classes", bars);
  const tick = note("The tick is the probability with all patches in place.");
  classes.append(tick);
  const layers = layerList("Best class after each layer", "Class after layer", (layer) => send({ layer }));

  // --- fifty others
  const judge = button("Judge on 50 held-out pictures", () => message({ do: "judge" }));
  const verdict = element("p.note", { "aria-live": "polite" });

  // --- pictures kept
  const keep = button("Keep beside", () => message({ do: "keep" }));
  const forget = button("Forget all kept", () => message({ do: "forget" }));
  const kept = element("div.kept", { role: "group", "aria-label": "Kept pictures" });

  content.append(
    note("Click or brush over patches to hide them: nobody in the encoder can look at them then."),
    input.node,
    element(
      "div.columns",
      element(
        "section",
        { "aria-label": "Picture" },
        board.node,
        sum,
        element("p.group", random, share.node, invert),
        element("p.group", shuffle, positionField, reset),
      ),
      element("div", classes, layers.node, element("p", judge), verdict),
    ),
    element("p.group", keep, forget),
    kept,
  );

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
    const { image } = picture;
    const grid = get("grid");
    const hidden = brushed ?? new Set(get("hidden"));
    for (const place of range(count())) {
      const patch = patchAt(place);
      const area = patchArea(place, grid, width, height);
      pen.drawImage(image, ...patchArea(patch, grid, image.naturalWidth, image.naturalHeight), ...area);
      if (hidden.has(patch)) cover(pen, area);
    }
    for (const place of range(count()))
      outline(pen, patchArea(place, grid, width, height), "rgba(255, 255, 255, 0.3)", 1);
    if (now < 0) return;
    outline(pen, patchArea(now, grid, width, height), "#fff", 4);
    outline(pen, patchArea(now, grid, width, height), "#1f6feb", 2);
  }

  // Grey, with a stroke across, so that it is clear in grey pictures, too.
  function cover(pen, [x, y, width, height]) {
    pen.fillStyle = "rgba(110, 116, 124, 0.93)";
    pen.fillRect(x, y, width, height);
    pen.strokeStyle = "rgba(255, 255, 255, 0.55)";
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, y + height);
    pen.lineTo(x + width, y);
    pen.stroke();
  }

  function keptPicture({ name, picture, bars }) {
    const image = element("img", { src: `data:image/png;base64,${picture}`, alt: name });
    return element(
      "figure",
      image,
      element("figcaption", name),
      ...bars.map(([label, now]) => bar(label, now, { problemType: get("problem_type") })),
    );
  }

  function drawVerdict([done, total, whole, now]) {
    verdict.replaceChildren();
    if (!done) return;
    const asked = done < total ? `The first ${done} of ${total} pictures` : `${total} pictures`;
    verdict.append(
      `${asked} that nothing was learned from: ${whole} right with all patches in place, `,
      element("b", `${now} right`),
      " with the same patches hidden or moved.",
    );
  }

  function draw() {
    const last = get("by_layer").length - 1;
    const layer = get("layer") < 0 ? last : Math.min(get("layer"), last);
    const hidden = get("hidden").length;
    const shuffled = get("order").length > 0;
    const problemType = get("problem_type");
    const title = problemType === "regression" ? "Number" : "Class";
    const changed = hidden > 0 || shuffled || get("positions") !== "own";
    positions.value = get("positions");
    reset.disabled = !changed;
    sum.textContent = `${count() - hidden} of ${count()} patches in sight${shuffled ? ", shuffled" : ""}`;
    classes.firstChild.textContent = layer === last ? title : `${title} read after layer ${layer}`;
    bars.replaceChildren(
      ...get("bars").map(([label, now, before]) =>
        bar(label, now, { before: changed ? before : null, told: "with all patches in place:", problemType }),
      ),
    );
    tick.classList.toggle("away", !changed || problemType === "regression");
    layers.draw(get("by_layer"), layer, problemType);
    judge.hidden = !get("judges");
    drawVerdict(get("judged"));
    forget.hidden = !get("kept").length;
    kept.hidden = !get("kept").length;
    kept.replaceChildren(...get("kept").map(keptPicture));
    input.draw();
    picture.refresh();
    board.draw();
  }

  return view.show(draw, { resized: board.draw, end: picture.stop });
}

export default { render };
