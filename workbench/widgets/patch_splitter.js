// PatchSplitter: draws what Python computed and reports clicks. See patch_splitter.py for the traits.

import { patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { element, frame, listen, readFloat16, sender } from "./shared.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "patch-splitter");
  const { send } = sender(model, ask);
  const shown = pictureOf(model, () => drawPictures());
  const count = () => model.get("grid")[0] * model.get("grid")[1];
  const fits = () => model.get("patch_size") === model.get("own_patch_size");

  // --- what is chosen
  function slider(label, name, least, most) {
    const text = element("output", {});
    const range = element("input", {
      type: "range",
      min: least,
      max: most,
      "aria-label": label,
      oninput: () => (text.textContent = `${range.value} pixels`),
      onchange: () => send({ [name]: +range.value }),
    });
    const draw = () => ((range.value = model.get(name)), (text.textContent = `${model.get(name)} pixels`));
    return { field: element("label", { class: "field" }, label, range, text), draw };
  }
  const largest = Math.min(1024, 2 * model.get("own_side"));
  const size = slider("Patch size", "patch_size", 4, Math.max(32, model.get("own_patch_size")));
  const side = slider("Picture size", "side", 32, largest);
  const own = element(
    "button",
    {
      class: "plain",
      type: "button",
      onclick: () =>
        send({ side: model.get("own_side"), patch_size: model.get("own_patch_size"), keep_shape: false }),
    },
    "As the checkpoint has it",
  );
  const shape = element("input", { type: "checkbox", onchange: () => send({ keep_shape: shape.checked }) });

  // --- the picture, and one patch of it
  const sum = element("p", { class: "sum" });
  const told = element("p", { class: "note told", "aria-live": "polite" });
  const board = patchBoard({
    label: "The picture in patches. Arrow keys move, Enter chooses a patch.",
    grid: () => model.get("grid"),
    click: (patch) => send({ patch }),
    paint: paintBoard,
    most: 380,
  });
  const large = element("canvas", {
    class: "large",
    role: "img",
    onmousemove: pixelAt,
    onmouseleave: () => tellPixel(-1),
  });
  const bands = element("canvas", { class: "strip", role: "img" });
  const numbers = element("p", {
    class: "numbers",
    tabindex: 0,
    role: "region",
    "aria-label": "All numbers of the patch",
  });
  const patchTitle = element("h4");
  const one = element(
    "section",
    { class: "part", "aria-label": "One patch" },
    patchTitle,
    element(
      "div",
      { class: "bar-row" },
      large,
      element(
        "div",
        { class: "flat" },
        element("p", { class: "note" }, "Flattened: all red values row by row, then green, then blue."),
        bands,
        told,
      ),
    ),
    numbers,
  );

  // --- the projection
  const filter = element("canvas", {
    class: "filter",
    role: "img",
    "aria-label": "The row of the matrix, laid out like the patch",
  });
  const map = element("canvas", { class: "map", role: "img", "aria-label": "The projection matrix" });
  const vector = element("canvas", {
    class: "strip pick",
    role: "img",
    "aria-label": "The resulting vector",
    onclick: (event) => send({ output: Math.floor((event.offsetX / vector.clientWidth) * hidden()) }),
  });
  const output = element("input", {
    type: "number",
    min: 1,
    onchange: () => send({ output: +output.value - 1 }),
  });
  const shapes = element("p", { class: "note" }),
    product = element("p", { class: "product" });
  const hidden = () => model.get("matrix_shape")[2];
  const projection = element(
    "section",
    { class: "part", "aria-label": "Projection" },
    element("h4", {}, "Times one matrix"),
    shapes,
    element(
      "div",
      { class: "bar-row" },
      element("figure", {}, map, element("figcaption", { class: "note" }, "the matrix")),
      element("figure", {}, filter, element("figcaption", { class: "note" }, "this row, as a patch")),
    ),
    element("label", { class: "field" }, "Number", output, "of the vector"),
    product,
    vector,
  );
  const none = element("p", { class: "empty" });

  // --- the sequence, and words beside it
  const perRow = () =>
    Math.max(6, Math.min(count() + 1, Math.floor((content.clientWidth - 24) / (count() > 300 ? 18 : 36))));
  const sequence = patchBoard({
    label: "All tokens, the class token first. Arrow keys move, Enter chooses one.",
    most: 4000,
    grid: () => [Math.ceil((count() + 1) / perRow()), perRow()],
    click: (token) => token <= count() && send({ patch: token - 1 }),
    paint: paintSequence,
  });
  const strips = ["patch × matrix", "+ position", "= token"].map((name) => {
    const canvas = element("canvas", { class: "strip", role: "img", "aria-label": name });
    const label = element("span", {}, name);
    return { canvas, label, row: element("div", { class: "strip-row" }, label, canvas) };
  });
  const words = element("div", { class: "both" });
  const input = pictureInput(model, ask);
  content.append(
    element(
      "p",
      { class: "note" },
      "A picture is cut into patches; each becomes a token. Click a patch, or walk with the arrow keys.",
    ),
    input,
    element(
      "div",
      { class: "bar-row" },
      size.field,
      side.field,
      element("label", { class: "field" }, shape, "keep the picture's shape"),
      own,
    ),
    element(
      "div",
      { class: "halves" },
      element("section", { "aria-label": "Picture" }, board.box, sum),
      element("div", {}, one, projection, none),
    ),
    element(
      "section",
      { class: "part", "aria-label": "Sequence" },
      element("h4", {}, "The sequence"),
      sequence.box,
      ...strips.map(({ row }) => row),
    ),
    element(
      "section",
      { class: "part", "aria-label": "Words and patches" },
      element("h4", {}, "The same, with words"),
      words,
    ),
  );

  // --- drawing
  const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const signed = (pen, value, most) => {
    pen.globalAlpha = Math.min(1, Math.abs(value) / most);
    pen.fillStyle = value < 0 ? ink("--random") : ink("--accent");
  };
  function fit(canvas, width, height) {
    const scale = devicePixelRatio || 1;
    Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    return pen;
  }
  function strip(canvas, values, mark = -1) {
    const width = canvas.clientWidth || 300,
      height = 22,
      cell = width / values.length;
    const pen = fit(canvas, width, height);
    const most = Math.max(...values.map(Math.abs), 1e-9);
    values.forEach((value, at) => (signed(pen, value, most), pen.fillRect(at * cell, 0, cell + 0.3, height)));
    pen.globalAlpha = 1;
    pen.strokeStyle = ink("--ink");
    pen.lineWidth = 1.5;
    if (mark >= 0) pen.strokeRect(mark * cell, 0.75, Math.max(cell, 3), height - 1.5);
  }
  function frameArea(pen, [x, y, w, h], color, width) {
    pen.strokeStyle = color;
    pen.lineWidth = width;
    pen.strokeRect(x, y, w, h);
  }
  function paintBoard(pen, width, height, now) {
    if (!shown.ready()) return;
    pen.drawImage(shown.image, 0, 0, width, height);
    const grid = model.get("grid");
    pen.strokeStyle = "rgba(255, 255, 255, 0.75)";
    pen.lineWidth = width / grid[1] > 8 ? 1.2 : 0.5;
    pen.beginPath();
    for (let row = 1; row < grid[0]; row++)
      pen.moveTo(0, (row * height) / grid[0]), pen.lineTo(width, (row * height) / grid[0]);
    for (let column = 1; column < grid[1]; column++)
      pen.moveTo((column * width) / grid[1], 0), pen.lineTo((column * width) / grid[1], height);
    pen.stroke();
    if (now >= 0) frameArea(pen, patchArea(now, grid, width, height), "#fff", 3);
    if (model.get("patch") < 0) return;
    frameArea(pen, patchArea(model.get("patch"), grid, width, height), "#fff", 5);
    frameArea(pen, patchArea(model.get("patch"), grid, width, height), "#1f6feb", 3);
  }
  // One patch of the picture, drawn anywhere.
  function drawPatch(pen, patch, x, y, width, height) {
    const grid = model.get("grid"),
      [w, h] = [shown.image.naturalWidth, shown.image.naturalHeight];
    pen.imageSmoothingEnabled = false;
    pen.drawImage(shown.image, ...patchArea(patch, grid, w, h), x, y, width, height);
  }
  function paintSequence(pen, width, height, now) {
    if (!shown.ready()) return;
    const columns = perRow(),
      cell = width / columns,
      gap = cell > 24 ? 4 : 2;
    for (let token = 0; token <= count(); token++) {
      const [x, y] = [(token % columns) * cell + gap / 2, Math.floor(token / columns) * cell + gap / 2];
      if (token) drawPatch(pen, token - 1, x, y, cell - gap, cell - gap);
      else {
        pen.fillStyle = ink("--accent");
        pen.fillRect(x, y, cell - gap, cell - gap);
        pen.fillStyle = "#fff";
        pen.font = "600 11px sans-serif";
        pen.textAlign = "center";
        if (cell > 24) pen.fillText("class", x + (cell - gap) / 2, y + cell / 2 + 2);
      }
      if (token === model.get("patch") + 1)
        frameArea(pen, [x, y, cell - gap, cell - gap], ink("--accent-ink"), 3);
      else if (token === now) frameArea(pen, [x, y, cell - gap, cell - gap], ink("--ink"), 2);
    }
  }
  const bytes = (name) =>
    new Uint8Array(model.get(name).buffer, model.get(name).byteOffset, model.get(name).byteLength);
  function drawLarge() {
    const p = model.get("patch_size"),
      side = 150,
      cell = side / p,
      colors = bytes("colors"),
      area = p * p;
    Object.assign(large.style, { width: `${side}px`, height: `${side}px` });
    const pen = fit(large, side, side);
    for (let at = 0; at < area; at++) {
      pen.fillStyle = `rgb(${colors[at]}, ${colors[area + at]}, ${colors[2 * area + at]})`;
      pen.fillRect((at % p) * cell, Math.floor(at / p) * cell, cell + 0.3, cell + 0.3);
    }
    const width = bands.clientWidth || 300,
      step = width / (3 * area),
      line = fit(bands, width, 22);
    for (let at = 0; at < 3 * area; at++) {
      const band = Math.floor(at / area);
      line.fillStyle = `rgb(${band === 0 ? colors[at] : 0}, ${band === 1 ? colors[at] : 0}, ${band === 2 ? colors[at] : 0})`;
      line.fillRect(at * step, 0, step + 0.3, 22);
    }
  }
  function pixelAt(event) {
    const p = model.get("patch_size"),
      cell = 150 / p;
    const [row, column] = [Math.floor(event.offsetY / cell), Math.floor(event.offsetX / cell)];
    tellPixel(row >= 0 && column >= 0 && row < p && column < p ? row * p + column : -1);
  }
  function tellPixel(at) {
    const area = model.get("patch_size") ** 2,
      colors = bytes("colors"),
      [values] = readFloat16(model.get("values"), 3 * area);
    told.textContent =
      at < 0
        ? "Point at a pixel to read it."
        : `pixel ${at + 1}: ` +
          ["red", "green", "blue"]
            .map(
              (name, band) => `${name} ${colors[band * area + at]} → ${values[band * area + at].toFixed(2)}`,
            )
            .join(", ");
  }
  function drawMatrix() {
    const [rows, columns, all, inputs] = model.get("matrix_shape"),
      view = model.get("matrix");
    const width = 180,
      height = 110,
      pen = fit(map, width, height);
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        signed(pen, view.getInt8(row * columns + column), 100);
        pen.fillRect(
          (column * width) / columns,
          (row * height) / rows,
          width / columns + 0.3,
          height / rows + 0.3,
        );
      }
    pen.globalAlpha = 1;
    frameArea(
      pen,
      [0.75, Math.min(height - 3, (model.get("output") * height) / all), width - 1.5, 3],
      ink("--ink"),
      1.5,
    );
    shapes.textContent = `${inputs} numbers in, ${all} out: a matrix of ${all} × ${inputs}, the same for every patch. Blue is positive, brown negative.`;
    const weights = model.get("weights").byteLength ? readFloat16(model.get("weights"), inputs)[0] : [];
    const p = model.get("own_patch_size"),
      area = p * p,
      side = 110,
      cell = side / p,
      brush = fit(filter, side, side);
    const most = Math.max(...weights.map(Math.abs), 1e-9);
    for (let at = 0; at < area && weights.length; at++) {
      const [r, g, b] = [0, 1, 2].map((band) => Math.round(128 + (127 * weights[band * area + at]) / most));
      brush.fillStyle = `rgb(${r}, ${g}, ${b})`;
      brush.fillRect((at % p) * cell, Math.floor(at / p) * cell, cell + 0.3, cell + 0.3);
    }
    const [total, bias] = model.get("total"),
      sign = bias < 0 ? "−" : "+";
    if (model.get("total").length)
      product.textContent = `Sum of ${inputs} products ${total.toFixed(3)} ${sign} bias ${Math.abs(bias).toFixed(3)} = ${(total + bias).toFixed(3)}`;
  }
  function drawVectors() {
    const has = model.get("vectors").byteLength > 0,
      inside = model.get("patch") >= 0;
    projection.hidden = !has || !inside;
    none.hidden = has && inside;
    none.textContent = !inside
      ? "The class token is no part of the picture: it is one learned vector, the same for every picture."
      : `The matrix of this checkpoint takes patches of ${model.get("own_patch_size")} × ${model.get("own_patch_size")} pixels. Another patch size needs another matrix, and another training.`;
    for (const { row } of strips) row.hidden = !has;
    if (!has) return;
    const rows = readFloat16(model.get("vectors"), hidden());
    strips[0].label.textContent = inside ? "patch × matrix" : "class token";
    strips.forEach(({ canvas }, at) => strip(canvas, rows[at]));
    output.max = hidden();
    output.value = model.get("output") + 1;
    if (inside) strip(vector, rows[0], model.get("output")), drawMatrix();
  }
  function drawWords() {
    const texts = model.get("words"),
      patches = Math.min(count(), Math.max(1, texts.length - 1));
    const begin = Math.max(0, Math.min(model.get("patch") - 2, count() - patches));
    const line = (name, cells, note) => [
      element("b", {}, name),
      element("div", { class: "tokens" }, ...cells),
      element("span", { class: "note" }, note),
    ];
    const token = (child, place, first) =>
      element("span", { class: `token${first ? " first" : ""}` }, child, element("small", {}, place));
    const thumbs = [...Array(patches).keys()].map((index) => {
      const canvas = element("canvas", {
        class: "thumb",
        width: 34,
        height: 34,
        role: "img",
        "aria-label": `patch ${begin + index + 1}`,
      });
      if (shown.ready()) drawPatch(canvas.getContext("2d"), begin + index, 0, 0, 34, 34);
      return token(canvas, begin + index + 1, false);
    });
    words.replaceChildren(
      ...line(
        "words",
        texts.map((text, at) => token(element("i", {}, text), at, at === 0)),
        "each piece: a row of a table",
      ),
      ...line(
        "patches",
        [token(element("i", {}, "class"), 0, true), ...thumbs, begin + patches < count() ? "…" : ""],
        "each patch: its pixels times a matrix",
      ),
    );
  }
  function drawPictures() {
    board.draw();
    sequence.draw();
    drawWords();
    root.dataset.pictures = model.get("revision");
  }
  function draw() {
    const [rows, columns] = model.get("grid"),
      p = model.get("patch_size"),
      patch = model.get("patch");
    for (const part of [size, side]) part.draw();
    shape.checked = model.get("keep_shape");
    own.disabled = fits() && model.get("side") === model.get("own_side") && !model.get("keep_shape");
    sum.replaceChildren(
      `${columns * p} × ${rows * p} pixels: `,
      element(
        "b",
        {},
        `${rows} × ${columns} patches + ${model.get("prefix")} = ${count() + model.get("prefix")} tokens`,
      ),
    );
    board.setCursor(patch);
    sequence.setCursor(patch + 1);
    one.hidden = patch < 0;
    patchTitle.textContent = `Patch ${patch + 1}: row ${Math.floor(patch / columns) + 1}, column ${(patch % columns) + 1}`;
    large.setAttribute("aria-label", `${patchTitle.textContent}, ${p} by ${p} pixels`);
    bands.setAttribute("aria-label", `Its ${3 * p * p} values as colours`);
    const [values] = readFloat16(model.get("values"), 3 * p * p);
    numbers.textContent = `${values.length} numbers: ${values.map((value) => value.toFixed(2)).join("  ")}`;
    tellPixel(-1);
    drawLarge();
    drawVectors();
    shown.refresh();
    drawPictures();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }

  const undo = listen(model, ["revision"], draw);
  let width = 0;
  const watch = new ResizeObserver(() => root.clientWidth !== width && ((width = root.clientWidth), draw()));
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
