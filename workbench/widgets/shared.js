// What all widgets share. `read_front` joins the modules.

// element("button", { class: "chip", onclick: f }, "text", child): text is always set as text.
export function element(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

// A number between 0 and 1 as percent, with more digits where they matter.
export function percent(share) {
  const value = 100 * share;
  const digits = value >= 9.95 ? value.toFixed(0) : value >= 0.1 ? value.toFixed(1) : "< 0.1";
  return `${digits} %`.replaceAll(" ", "\u00a0"); // never torn apart at the end of a line
}

// float16 bytes (a DataView) -> rows of numbers.
export function readFloat16(view, columns) {
  const rows = [];
  for (let at = 0; at + 1 < view.byteLength; at += 2) {
    const bits = view.getUint16(at, true);
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
    const index = at / 2;
    if (index % columns === 0) rows.push([]);
    rows[rows.length - 1].push(bits >> 15 ? -size : size);
  }
  return rows;
}

// What is typed in a field. Half a character (a lone surrogate) would be lost on the way to Python.
export const typedText = (field) => field.value.toWellFormed?.() ?? field.value;

// A labelled native control; `change` gets its value as text.
export function select(label, choices, change) {
  const control = element("select", { onchange: () => change(control.value) });
  for (const [value, text] of choices) control.append(element("option", { value }, text));
  return [element("label", { class: "field" }, label, control), control];
}

// The frame of a widget, with a class of its own for its style: a place for content, an error line and a status
// line.
export function frame(model, el, name) {
  const content = element("div", { class: "content" });
  const error = element("p", { class: "error", role: "alert" });
  const status = element("p", { class: "status", role: "status" });
  const root = element("div", { class: `workbench ${name}` }, content, error, status);
  // Otherwise the notebook takes typed letters as commands ("dd" deletes the cell).
  root.addEventListener("keydown", (event) => event.stopPropagation());
  el.replaceChildren(root);
  let waiting = 0;
  const tell = () => {
    clearTimeout(waiting);
    root.classList.remove("waiting");
    error.textContent = model.get("error");
    status.textContent = model.get("status");
  };
  // Call it when something was asked of Python.
  const ask = () => {
    clearTimeout(waiting);
    if (model.saved) {
      error.textContent = "This is a saved view: nothing new is computed here.";
      return;
    }
    waiting = setTimeout(() => {
      root.classList.add("waiting");
      waiting = setTimeout(() => {
        error.textContent = "The kernel does not answer: if it was restarted, run this cell again.";
      }, 8000);
    }, 300);
  };
  const stop = listen(model, ["revision"], tell);
  tell();
  return { root, content, ask, stop };
}

// send({ text: "…" }) sets traits and asks Python, if that changes anything; message({ do: "…" }) asks for
// something else. Saved pages say that nothing is computed there.
export function sender(model, ask) {
  const send = (values) => {
    if (model.saved) return ask();
    const same = (name, value) => JSON.stringify(model.get(name)) === JSON.stringify(value);
    const changed = Object.entries(values).filter(([name, value]) => !same(name, value));
    if (!changed.length) return; // Python would not answer
    for (const [name, value] of changed) model.set(name, value);
    model.save_changes();
    ask();
  };
  const message = (content) => {
    if (!model.saved) model.send(content);
    ask();
  };
  return { send, message };
}

// Calls `draw` once after any of these traits changed, and after the theme did, as canvases keep its colours;
// returns what undoes it.
export function listen(model, names, draw) {
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
  const theme = new MutationObserver(() => setTimeout(plan, 300)); // its colours are loaded after its name is set
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => {
    theme.disconnect();
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
  const listeners = {};
  const set = (name, value) => {
    state[name] = value;
    for (const call of listeners[`change:${name}`] ?? []) call();
  };
  const on = (event, call) => {
    listeners[event] = [...(listeners[event] ?? []), call];
  };
  const nothing = () => {};
  return {
    saved: true,
    get: (name) => state[name],
    set,
    on,
    off: nothing,
    send: nothing,
    save_changes: nothing,
  };
}
