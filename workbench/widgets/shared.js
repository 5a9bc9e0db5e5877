// What every view stands on: elements, numbers, the frame around it, and the kernel's stand-in in a saved
// page.

const DRAWINGS = ["svg", "line", "polyline", "circle", "text"];
const KEYED = ["button", "canvas", "input", "select", "summary", "textarea"];

// element("button.plain", { onclick: f }, "text", child, [more, children]): text is always set as text, never
// as HTML; null and false are no child.
export function element(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const space = DRAWINGS.includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const node = document.createElementNS(space, tag);
  const options = children[0]?.constructor === Object ? children.shift() : {};
  if (classes.length) node.setAttribute("class", classes.join(" "));
  if (tag === "button") node.type = tag;
  for (const [option, value] of Object.entries(options)) {
    if (option.startsWith("on")) node[option] = value;
    else if (option.startsWith("aria-") && value != null) node.setAttribute(option, value);
    else if (value === true) node.setAttribute(option, "");
    else if (value !== false && value != null) node.setAttribute(option, value);
  }
  // Notebook's shortcuts would take the arrow keys else, before the element hears of them.
  if (KEYED.includes(tag)) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...shown(children));
  return node;
}

export const shown = (children) => children.flat().filter((child) => child != null && child !== false);

// --- numbers

// A number between 0 and 1 as percent, with more digits where they matter: 99.7 % is not 100 %.
export function percent(share) {
  const value = 100 * share;
  const rounded = value.toFixed(value >= 9.95 && value < 99 ? 0 : 1);
  const whole = value === 0 ? "0" : value === 100 ? "100" : null;
  const digits = whole ?? (value < 0.1 ? "< 0.1" : value >= 99.95 ? "> 99.9" : rounded);
  return `${digits} %`.replaceAll(" ", "\u00a0"); // never torn apart at the end of a line
}

// How an answer is written: a probability as percent, the number of a regression with three digits or more.
export const answerWriter = (problemType) => (problemType === "regression" ? number : percent);

function number(value) {
  const digits = 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 0.01)));
  return fixed(value, within(digits, 0, 4));
}

// What beginners should know about answers that are not one class of several.
const ANSWER_NOTES = {
  multi_label_classification: "Each class is true or false for itself: together they need not make 100 %.",
  regression: "This checkpoint answers with a number on its own scale, not with a class.",
};

// A text within ours, set apart: from right to left it would turn round what stands beside it.
export const isolated = (text) => (/[\u0590-\u08ff\ufb1d-\ufefc]/.test(text) ? `\u2068${text}\u2069` : text);

// A number with a true minus sign.
export function fixed(value, digits) {
  const rounded = Math.round(value * 10 ** digits) / 10 ** digits + 0; // + 0: no minus before zero
  return rounded.toFixed(digits).replace("-", "\u2212");
}

export const range = (count) => [...Array(count).keys()];

export const within = (value, least, most) => Math.min(most, Math.max(least, value));

// What stands between numbers with so many digits and their sum: rounded ones need not add up.
export function equals(parts, sum, digits) {
  const [total, ...rounded] = [sum, ...parts].map((value) => Math.round(value * 10 ** digits));
  return rounded.reduce((before, part) => before + part) === total ? "=" : "≈";
}

// How many of a thing there are, in words.
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

const STEPS = range(32).map((exponent) => 2 ** (Math.max(exponent, 1) - 25)); // of float16

// float16 bytes (a DataView) -> rows of numbers.
export function readFloat16(view, columns) {
  const numbers = Array(view.byteLength >> 1);
  for (let at = 0; at < numbers.length; at++) {
    const bits = view.getUint16(2 * at, true);
    const exponent = (bits >> 10) & 31;
    const size = STEPS[exponent] * ((bits & 1023) + (exponent ? 1024 : 0));
    numbers[at] = bits >> 15 ? -size : size;
  }
  const rows = range(numbers.length ? Math.ceil(numbers.length / columns) : 0);
  return rows.map((row) => numbers.slice(row * columns, (row + 1) * columns));
}

// --- answers given beforehand

const SAVED = "This is a saved view: run the cell to make it live.";

// Reads what rehearsal.py packs; values that widgets of a page share are packed for themselves.
async function unpacked(packed, shared) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const whole = await new Response(stream).arrayBuffer();
  const start = 4 + new DataView(whole).getUint32(0, true);
  const answers = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, start - 4)));
  answers.values = answers.values.map((value) =>
    value?.bytes ? new DataView(whole, start + value.bytes[0], value.bytes[1]) : value,
  );
  return shared?.byteLength ? { ...answers, values: (await unpacked(shared)).values } : answers;
}

// What was rehearsed: note() is a promise of a remark, answer(click) one of what changes, { trait: value },
// or of null. A click is { trait: value } or a message { do: "…" }.
export function answerer(model) {
  let packed = null;
  let unpacking = null;
  const read = () => {
    const now = model.get("rehearsal");
    if (now !== packed) unpacking = now?.byteLength ? unpacked(now, model.get("shared")) : null;
    packed = now;
    return unpacking;
  };
  const answer = async (click) => {
    const rehearsal = await read();
    if (!rehearsal) return null;
    const { places, changes, answers, values } = rehearsal;
    const placeOf = (name, value) =>
      places[name].find((place) => JSON.stringify(values[place]) === JSON.stringify(value));
    const changed = click.do ? {} : click;
    // A value may be known from other clicks, though nobody chose it.
    const isKnown = ([name, value]) =>
      places[name] && placeOf(name, value) !== undefined && placeOf("click", [name]) !== undefined;
    if (!Object.entries(changed).every(isKnown)) return null;
    // Where the values are, first as they are asked for, then as Python settles them.
    const asked = { click: placeOf("click", click.do ? click : Object.keys(click)) };
    for (const name of Object.keys(places)) asked[name] ??= placeOf(name, changed[name] ?? model.get(name));
    const look = (all, from) =>
      Object.entries(all).map(([name, own]) => {
        const found = own.map(({ of, at }) => at[of.map((one) => from[one])]);
        return [name, found.find((place) => place !== undefined)];
      });
    const known = look(changes, asked).filter(([, place]) => place !== undefined);
    if (click.do && !known.length) return null;
    const told = look(answers, { ...asked, ...Object.fromEntries(known) });
    if (told.some(([, place]) => place === undefined)) return null;
    const valued = [...known, ...told].map(([name, place]) => [name, values[place]]);
    return { ...changed, ...Object.fromEntries(valued) };
  };
  return { answer, note: async () => (await read())?.note ?? "" };
}

// --- the frame

// The frame of a widget: a place for content, a remark on unusual answers, an error line and a status line,
// inside a class of its own.
//   root, content: nodes; get(trait): its value;
//   set({ trait: value }): what only changes the look; send({ trait: value }): what Python answers;
//   message({ do: "…" }): asks Python for something else; ask(): Python was asked by another way;
//   drawn(draw): what a part does at each drawing; redraw(): does all of it, in the order of `drawn`;
//   ink(name): a colour of the theme as it is now, as in ink("--accent"); show(options): see there.
export function frame(model, el, name) {
  const content = element("div.content");
  const about = element("p.note");
  const error = element("p.error", { role: "alert" });
  const status = element("p.status"); // not read aloud: the strip tells the answer
  const root = element(`div.workbench.${name}`, content, about, error, status);
  // Otherwise the notebook takes typed letters as commands ("dd" deletes the cell).
  root.addEventListener("keydown", (event) => event.stopPropagation());
  el.replaceChildren(root);
  const dress = () => {
    root.classList.remove("light", "dark");
    root.classList.add(isDark(root) ? "dark" : "light");
  };
  const get = (trait) => model.get(trait);
  const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  // Whether no kernel is behind the view: in a saved page, in a notebook that was opened again.
  const saved = () => model.saved || get("layout")?.comm_live === false;
  const rehearsed = answerer(model);
  let waiting = 0;

  const tell = () => {
    clearTimeout(waiting);
    waiting = 0;
    root.classList.remove("waiting");
    about.textContent = ANSWER_NOTES[get("problem_type")] ?? "";
    about.hidden = !about.textContent;
    error.textContent = get("error");
    status.textContent = get("status");
    if (saved()) rehearsed.note().then((note) => status.append(note && ` · ${note}`));
  };
  const ask = () => {
    clearTimeout(waiting);
    if (saved()) error.textContent = SAVED;
    else
      waiting = setTimeout(() => {
        root.classList.add("waiting");
        waiting = setTimeout(() => {
          error.textContent = "The kernel does not answer: if it was restarted, run this cell again.";
        }, 8000);
      }, 300);
  };
  const set = (values) => {
    for (const [trait, value] of Object.entries(values)) model.set(trait, value);
    model.save_changes();
    if (saved()) error.textContent = get("error"); // what was said of another click
  };
  const send = (values) => {
    const differs = ([trait, value]) => JSON.stringify(get(trait)) !== JSON.stringify(value);
    const changed = Object.entries(values).filter(differs);
    if (!changed.length) return; // Python would not answer
    if (saved()) return replay(Object.fromEntries(changed));
    set(Object.fromEntries(changed));
    ask();
  };
  const message = (what) => {
    if (saved()) return replay(what);
    model.send(what);
    ask();
  };
  const replay = async (click) => {
    const answer = await rehearsed.answer(click);
    if (!answer) {
      redraw(); // what was clicked shows again what is there
      return ask();
    }
    const values = { ...answer, error: "", revision: get("revision") + 1 };
    for (const [trait, value] of Object.entries(values)) model.set(trait, value);
  };
  const stop = listen(model, ["revision"], tell);
  tell();

  const draws = [];
  const drawn = (draw) => draws.push(draw);
  const redraw = () => {
    const focused = root.getRootNode().activeElement;
    const around = root.contains(focused) ? focused.parentElement : null;
    for (const draw of draws) draw();
    if (around) keepFocus(focused, around, root);
    root.dataset.revision = get("revision"); // tests wait for it
  };

  // Draws now, once the view is on the page, when its width or the theme has changed, after each answer and
  // after a change of these traits; heard(message) is called when Python tells something meanwhile. Returns
  // what undoes all that, and calls end().
  const show = ({ traits = [], heard = () => {}, end = () => {} } = {}) => {
    let width = 0;
    const drawAnew = () => {
      dress(); // only on the page it is known what is behind it
      redraw(); // canvases keep the old colours
    };
    const watch = new ResizeObserver(() => {
      if (root.clientWidth === width) return;
      width = root.clientWidth;
      drawAnew();
    });
    const undress = onTheme(drawAnew);
    const forget = listen(model, ["revision", ...traits], redraw);
    get("layout")?.on?.("comm_live_update", redraw); // the kernel is gone
    const told = (content) => {
      if (waiting) ask(); // it is at work
      heard(content);
    };
    model.on("msg:custom", told);
    watch.observe(root);
    drawAnew();
    return () => {
      for (const undo of [stop, forget, undress, end]) undo();
      model.off("msg:custom", told);
      get("layout")?.off?.("comm_live_update", redraw);
      watch.disconnect();
    };
  };
  return { root, content, get, set, send, message, ask, saved, ink, drawn, redraw, show };
}

// Where the focused node is gone, hidden or disabled now, what is around it gets the keyboard's focus: the
// Tab key goes on from there, and a second Enter presses nothing else.
function keepFocus(node, around, root) {
  const usable = (one) => !one.disabled && one.isConnected && one.getClientRects().length > 0;
  if (usable(node)) return;
  let at = around;
  while (at && !usable(at)) at = at.parentElement;
  if (!root.contains(at)) return; // all of the view is hidden
  at.tabIndex = -1;
  at.focus();
}

// A colour of CSS, however it is written (oklch, color(srgb …)), as [red, green, blue, opacity] up to 255.
export function rgbaOf(color) {
  const pen = element("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = color;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
}

// Whether a node's background is dark: told by the colour, for every host has names of its own for themes.
function isDark(node) {
  for (let at = node; at && !matchMedia("(forced-colors: active)").matches; ) {
    const [red, green, blue, opacity] = rgbaOf(getComputedStyle(at).backgroundColor);
    if (opacity > 127) return 0.3 * red + 0.59 * green + 0.11 * blue < 128;
    at = at.parentElement ?? at.getRootNode().host;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

// Calls `then` after the theme of the host or of the system has changed; returns what undoes it.
function onTheme(then) {
  // The theme's colours are loaded after its name is set.
  const soon = () => setTimeout(then, 300);
  const names = new MutationObserver(soon);
  for (const node of [document.documentElement, document.body]) names.observe(node, { attributes: true });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", soon);
  return () => {
    names.disconnect();
    system.removeEventListener("change", soon);
  };
}

// Calls `draw` once after any of these traits changed; returns what undoes it.
function listen(model, names, draw) {
  let planned = false;
  const plan = () => {
    if (planned) return;
    planned = true;
    queueMicrotask(() => {
      planned = false;
      draw();
    });
  };
  for (const name of names) model.on(`change:${name}`, plan);
  return () => {
    for (const name of names) model.off(`change:${name}`, plan);
  };
}

// Stands in for the kernel's model in a page that was saved.
export function savedModel(state) {
  for (const [name, value] of Object.entries(state)) {
    if (value?.bytes === undefined) continue;
    const bytes = Uint8Array.from(atob(value.bytes), (letter) => letter.charCodeAt(0));
    state[name] = new DataView(bytes.buffer);
  }
  const calls = {};
  const nothing = () => {};
  const on = (event, call) => {
    calls[event] = [...(calls[event] ?? []), call];
  };
  const set = (name, value) => {
    state[name] = value;
    for (const call of calls[`change:${name}`] ?? []) call();
  };
  return { saved: true, get: (name) => state[name], set, on, off: nothing, save_changes: nothing };
}
