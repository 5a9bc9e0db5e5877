// NextSentence: draws what Python computed and reports clicks. See next_sentence.py for the traits.

import { select } from "./parts.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";
import { exampleMenu, numbered, resultBar, reuse, textField } from "./two_texts.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "next-sentence");
  const { send, message } = sender(model, ask);
  const first = textField(model, send, "first", "First sentence · segment 0", "first");
  const second = textField(model, send, "second", "Second sentence · segment 1", "second");
  const plain = (text, click, options = {}) =>
    element("button", { class: "plain", type: "button", onclick: click, ...options }, text);
  const remark = element("p", { class: "remark", role: "status" });

  // --- the tokens
  const strip = element("div", {
    class: "strip",
    role: "list",
    "aria-label": "What the model reads",
    tabindex: 0,
  });
  const legend = element(
    "p",
    { class: "note" },
    element("span", { class: "swatch first" }),
    "segment 0",
    element("span", { class: "swatch second" }),
    "segment 1",
    element("span", { class: "swatch" }),
    "[CLS] and [SEP] · below each token: segment id · position id · above it: attention from [CLS]",
  );
  const choice = (name, label, options) => {
    const buttons = Object.entries(options).map(([value, text]) =>
      plain(text, () => send({ [name]: value }), { "data-value": value }),
    );
    const node = element("span", { class: "group", role: "group", "aria-label": label }, label, ...buttons);
    const update = () =>
      buttons.forEach((button) =>
        button.setAttribute("aria-pressed", button.dataset.value === model.get(name)),
      );
    return { node, update };
  };
  const place = choice("cls_at", "[CLS] stands", {
    front: "in front",
    middle: "in the middle",
    end: "at the end",
  });
  const numbers = choice("positions", "Position ids", {
    follow: "follow the place",
    stay: "stay with the token",
  });
  const layers = [...numbered(model.get("layers")), [model.get("layers"), "all (rollout)"]];
  const [layerField, layer] = select("Attention from [CLS]: layer", layers, (value) =>
    send({ attention_layer: +value }),
  );
  const [headField, head] = select("head", [[-1, "mean"], ...numbered(model.get("heads"))], (value) =>
    send({ attention_head: +value }),
  );

  // --- the answer, and attention by layer
  const answer = element("div", { class: "answer", role: "status" });
  const table = element("div", { class: "between" });
  const gameBox = element("section", { class: "panel game", "aria-label": "A game of ten pairs" });

  content.append(
    element("div", { class: "texts" }, first.node, second.node),
    element(
      "div",
      { class: "bar-row tools" },
      exampleMenu(model, message, "Pick a pair …"),
      plain("Swap", () => message({ do: "swap" })),
      plain("Random second sentence", () => message({ do: "random second" })),
    ),
    remark,
    answer,
    element("div", { class: "strip-box" }, strip),
    legend,
    element(
      "div",
      { class: "bar-row tools" },
      place.node,
      numbers.node,
      element("span", { class: "group" }, layerField, headField),
    ),
    element(
      "div",
      { class: "panels-two" },
      element(
        "section",
        { class: "panel", "aria-label": "Attention between the sentences, by layer" },
        element("h4", {}, "Who looks at whom, layer by layer"),
        table,
        element(
          "p",
          { class: "note" },
          "Each bar is all the attention of a group: blue goes to words of the first sentence, orange to the second, grey to [CLS] and [SEP].",
        ),
      ),
      gameBox,
    ),
  );

  function drawStrip() {
    const tokens = model.get("tokens");
    const weights = readFloat16(model.get("weights"), tokens.length)[0] ?? [];
    const strongest = Math.max(...weights, 1e-9);
    reuse(
      strip,
      tokens,
      () =>
        element(
          "span",
          { role: "listitem" },
          element("i", { class: "column", "aria-hidden": "true" }),
          element("b", {}),
          element("small", {}),
        ),
      (node, token, index) => {
        node.className = `token ${token.kind === "word" ? (token.segment ? "second" : "first") : token.kind}`;
        node.title = `vocabulary id ${token.id}, segment ${token.segment}, position ${token.position}; [CLS] gives it ${percent(weights[index])} of its attention`;
        node.children[0].style.height = `${Math.round((34 * weights[index]) / strongest)}px`;
        node.children[1].textContent = token.text;
        node.children[2].textContent = `${token.segment} · ${token.position}`;
      },
    );
  }

  function drawAnswer() {
    const moved = model.get("cls_at") !== "front";
    answer.replaceChildren(
      resultBar(
        "The second follows the first",
        model.get("is_next"),
        moved ? model.get("at_front") : null,
        "best",
      ),
      ...(moved
        ? [
            element(
              "p",
              { class: "note" },
              Math.abs(model.get("is_next") - model.get("at_front")) > 0.0005
                ? `With [CLS] in front it is ${percent(model.get("at_front"))} (the tick).`
                : "The same as with [CLS] in front.",
            ),
          ]
        : []),
    );
  }

  function drawBetween() {
    const rows = readFloat16(model.get("between"), 9);
    const names = ["[CLS] looks at", "first looks at", "second looks at"];
    const to = ["the first", "the second", "[CLS] and [SEP]"];
    table.replaceChildren(
      element("span", { class: "note" }, "layer"),
      ...names.map((name) => element("span", { class: "note" }, name)),
      ...rows.flatMap((row, index) => [
        element("span", { class: "note" }, index + 1),
        ...names.map((name, group) => {
          const shares = row.slice(3 * group, 3 * group + 3);
          const text = shares.map((share, at) => `${to[at]} ${percent(share)}`).join(", ");
          return element(
            "span",
            {
              class: "stack",
              role: "img",
              "aria-label": `Layer ${index + 1}, ${name}: ${text}`,
              title: text,
            },
            ...shares.map((share, at) =>
              element("i", { class: ["first", "second", "special"][at], style: `flex-grow: ${share}` }),
            ),
          );
        }),
      ]),
    );
  }

  // --- the game
  function drawGame() {
    const game = model.get("game");
    const within = gameBox.contains(document.activeElement);
    const score = () =>
      element(
        "p",
        { class: "score" },
        "You ",
        element("b", {}, game.you),
        " · BERT ",
        element("b", {}, game.bert),
        ` of ${game.truth == null ? game.round - 1 : game.round}`,
      );
    if (!game.round)
      gameBox.replaceChildren(
        element("h4", {}, "Game: ten pairs"),
        element(
          "p",
          {},
          "You judge first, then you see what BERT says. Half of the pairs are mixed from two different texts.",
        ),
        plain("Play", () => message({ do: "play" })),
      );
    else if (game.over)
      gameBox.replaceChildren(
        element("h4", {}, "Game over"),
        score(),
        element(
          "p",
          {},
          game.you > game.bert
            ? "You were better than BERT."
            : game.you < game.bert
              ? "BERT was better this time."
              : "A draw.",
        ),
        element(
          "div",
          { class: "group" },
          plain("Play again", () => message({ do: "play" })),
          plain("Close", () => message({ do: "stop" })),
        ),
      );
    else {
      const pair = [
        element("h4", {}, `Pair ${game.round} of ${game.rounds}`),
        element("p", { class: "side first" }, game.first),
        element("p", { class: "side second" }, game.second),
      ];
      if (game.truth == null)
        gameBox.replaceChildren(
          ...pair,
          element("p", {}, "Does the second sentence follow the first?"),
          element(
            "div",
            { class: "group" },
            plain("It follows", () => message({ do: "guess", is_next: true })),
            plain("It is from elsewhere", () => message({ do: "guess", is_next: false })),
            plain("Stop", () => message({ do: "stop" })),
          ),
          ...(game.round > 1 ? [score()] : []),
        );
      else
        gameBox.replaceChildren(
          ...pair,
          element(
            "p",
            { role: "status" },
            element("b", {}, game.guess === game.truth ? "Right. " : "Not this time. "),
            game.truth ? "It does follow." : "It is from elsewhere.",
            ` BERT says ${game.model > 0.5 ? "it follows" : "it does not"}:`,
          ),
          resultBar("It follows", game.model, null),
          element(
            "div",
            { class: "group" },
            plain(game.round === game.rounds ? "See the result" : "Next pair", () =>
              message({ do: "next round" }),
            ),
            plain("Look inside", () => message({ do: "look inside" })),
          ),
          score(),
        );
    }
    if (within) gameBox.querySelector("button")?.focus(); // the button that was pressed is gone
  }

  function draw() {
    for (const part of [first, second, place, numbers]) part.update();
    remark.textContent = model.get("note");
    const count = model.get("layers");
    const now = model.get("attention_layer");
    layer.value = now >= 0 && now <= count ? now : count - 1;
    head.value = model.get("attention_head");
    head.disabled = now === count;
    drawStrip();
    drawAnswer();
    drawBetween();
    drawGame();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }

  const undo = listen(model, ["revision"], draw);
  draw();
  return () => {
    undo();
    stop();
  };
}

export default { render };
