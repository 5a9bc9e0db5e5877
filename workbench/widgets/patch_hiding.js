// PatchHiding: draws what Python computed and reports clicks. See patch_hiding.py for the traits.

import { select } from "./parts.js";
import { patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { element, frame, listen, percent, sender } from "./shared.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "patch-hiding");
  const { send, message } = sender(model, ask);
  const count = () => model.get("grid")[0] * model.get("grid")[1];
  const patchAt = (place) => model.get("order")[place] ?? place;
  const shown = pictureOf(model, () => board.draw());
  let brushed = null; // what is hidden while the brush is down
  let covers = true; // whether the brush hides or shows

  const board = patchBoard({
    label:
      "The picture in patches. Click or brush to hide patches and to show them again; arrow keys move, Enter hides or shows.",
    grid: () => model.get("grid"),
    paint,
    most: 400,
    brush(place, first) {
      if (place < 0) return (brushed = null);
      if (model.saved) return ask();
      const patch = patchAt(place);
      if (first) {
        brushed = new Set(model.get("hidden"));
        covers = !brushed.has(patch);
      }
      if (covers === brushed.has(patch)) return;
      if (covers) brushed.add(patch);
      else brushed.delete(patch);
      send({ hidden: [...brushed].sort((a, b) => a - b) });
      board.draw();
    },
  });
  const button = (text, act) => element("button", { class: "plain", type: "button", onclick: act }, text);
  const share = element("input", {
    type: "range",
    min: 5,
    max: 95,
    step: 5,
    value: 50,
    "aria-label": "Share that is hidden at random",
    oninput: () => (random.textContent = `Hide ${share.value} % at random`),
  });
  const random = button("Hide 50 % at random", () => message({ do: "hide", share: share.value / 100 }));
  const invert = button("Swap hidden and shown", () => message({ do: "invert" }));
  const shuffle = button("Shuffle", () => message({ do: "shuffle" }));
  const reset = button("Reset", () => message({ do: "reset" }));
  const [positionField, positions] = select(
    "Positions",
    [
      ["own", "each patch keeps its own"],
      ["place", "that of the new place"],
      ["none", "none at all"],
    ],
    (value) => send({ positions: value }),
  );
  const sum = element("p", { class: "note sum", "aria-live": "polite" });

  const title = element("h4");
  const bars = element("div", { class: "bars" });
  const tick = element("p", { class: "note" }, "The tick is the probability with all patches in place.");
  const depth = element("input", {
    type: "range",
    min: 0,
    "aria-label": "Class after layer",
    oninput: () => send({ layer: +depth.value }),
  });
  const list = element("ol");
  const keep = button("Keep beside", () => message({ do: "keep" }));
  const forget = button("Forget all kept", () => message({ do: "forget" }));
  const row = element("div", { class: "kept", role: "group", "aria-label": "Kept pictures" });
  const input = pictureInput(model, ask);
  content.append(
    element(
      "p",
      { class: "note" },
      "Click or brush over patches to hide them: nobody in the encoder can look at them then.",
    ),
    input,
    element(
      "div",
      { class: "halves" },
      element(
        "section",
        { "aria-label": "Picture" },
        board.box,
        sum,
        element("p", { class: "group" }, random, share, invert),
        element("p", { class: "group" }, shuffle, positionField, reset),
      ),
      element(
        "div",
        {},
        element("section", { class: "part", "aria-label": "Classes" }, title, bars, tick),
        element(
          "section",
          { class: "part by-layer", "aria-label": "Class after each layer" },
          element("h4", {}, "Best class after each layer"),
          depth,
          list,
        ),
      ),
    ),
    element("p", { class: "group" }, keep, forget),
    row,
  );

  function paint(pen, width, height, now) {
    if (!shown.ready()) return;
    const grid = model.get("grid"),
      hidden = brushed ?? new Set(model.get("hidden"));
    const [w, h] = [shown.image.naturalWidth, shown.image.naturalHeight];
    for (let place = 0; place < count(); place++) {
      const patch = patchAt(place),
        area = patchArea(place, grid, width, height);
      pen.drawImage(shown.image, ...patchArea(patch, grid, w, h), ...area);
      if (!hidden.has(patch)) continue;
      pen.fillStyle = "rgba(110, 116, 124, 0.93)";
      pen.fillRect(...area);
      pen.strokeStyle = "rgba(255, 255, 255, 0.55)"; // a stroke across, so that grey pictures are clear, too
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(area[0], area[1] + area[3]);
      pen.lineTo(area[0] + area[2], area[1]);
      pen.stroke();
    }
    pen.strokeStyle = "rgba(255, 255, 255, 0.3)";
    pen.lineWidth = 1;
    for (let place = 0; place < count(); place++) pen.strokeRect(...patchArea(place, grid, width, height));
    if (now < 0) return;
    pen.strokeStyle = "#fff";
    pen.lineWidth = 4;
    pen.strokeRect(...patchArea(now, grid, width, height));
    pen.strokeStyle = "#1f6feb";
    pen.lineWidth = 2;
    pen.strokeRect(...patchArea(now, grid, width, height));
  }
  const changed = () =>
    model.get("hidden").length || model.get("order").length || model.get("positions") !== "own";
  function bar([label, now, before], compared) {
    const track = element(
      "span",
      { class: "track" },
      element("div", { class: "fill", style: `width: ${100 * now}%` }),
    );
    if (compared)
      track.append(
        element("span", {
          class: "before",
          style: `left: ${99 * before}%`,
          title: `with all patches in place: ${percent(before)}`,
        }),
      );
    return element(
      "div",
      { class: "candidate" },
      element("span", { class: "word", title: label }, label),
      track,
      element("span", { class: "value" }, percent(now)),
    );
  }
  function draw() {
    const layers = model.get("by_layer"),
      last = layers.length - 1;
    const layer = model.get("layer") < 0 ? last : Math.min(model.get("layer"), last);
    positions.value = model.get("positions");
    reset.disabled = !changed();
    const [hidden, of] = [model.get("hidden").length, count()];
    sum.textContent = `${of - hidden} of ${of} patches in sight${model.get("order").length ? ", shuffled" : ""}`;
    title.textContent = layer === last ? "Class" : `Class read after layer ${layer}`;
    bars.replaceChildren(...model.get("bars").map((one) => bar(one, changed())));
    tick.style.visibility = changed() ? "" : "hidden";
    depth.max = last;
    depth.value = layer;
    list.replaceChildren(
      ...layers.map(([label, probability], at) =>
        element(
          "li",
          { class: at === layer ? "now" : "" },
          element("span", { class: "note" }, at),
          element("span", { class: "word" }, label),
          element("span", {}, percent(probability)),
        ),
      ),
    );
    const kept = model.get("kept");
    forget.hidden = !kept.length;
    row.hidden = !kept.length;
    row.replaceChildren(
      ...kept.map(({ name, picture, bars }) =>
        element(
          "figure",
          {},
          element("img", { src: `data:image/png;base64,${picture}`, alt: name }),
          element("figcaption", {}, name),
          ...bars.map((one) => bar(one, false)),
        ),
      ),
    );
    shown.refresh();
    board.draw();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }

  const undo = listen(model, ["revision"], draw);
  let width = 0;
  const watch = new ResizeObserver(
    () => root.clientWidth !== width && ((width = root.clientWidth), board.draw()),
  );
  watch.observe(root);
  draw();
  return () => {
    undo();
    stop();
    shown.stop();
    input.stop();
    watch.disconnect();
  };
}

export default { render };
