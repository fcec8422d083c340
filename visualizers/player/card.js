// The card beside the pointer or the focused token: who it is, its state, its numbers, and the candidates with bars.

function tokenName(drawing, step, token) {
  const { kind, columns } = drawing.layout;
  if (kind === "grid") return `row ${Math.floor(token / columns) + 1}, column ${token % columns + 1}`;
  const label = kind === "places" && drawing.layout.labels[token];
  return `${kind === "graph" ? "node" : "token"} ${token + 1}${label ? `, ${label}` : ""}`;
}

function stateWords(drawing, code) {
  const found = drawing.legend.find((entry) => entry.state === code);
  return found ? found.title : STATES[code];
}

// One sentence for screen readers: `row 3, column 5: known, confidence 0.91`.
function spoken(drawing, step, token) {
  const piece = drawing.worded && !drawing.hides(step, token) ? drawing.text(step, token) : null;
  const text = piece || (piece !== null && drawing.layout.kind === "text") ? `“${piece}”, ` : "";
  const numbers = Object.entries(drawing.fields).map(([name, scale]) => [scale, drawing.number(step, name, token)])
    .filter(([, value]) => value !== null)
    .map(([scale, value]) => `${scale.title} ${scaled(scale, value)}`);
  const links = neighbours(drawing, step, token)
    .map(([title, nodes]) => `${title.toLowerCase()} ${neighbourWords(drawing, step, nodes)}`);
  const words = [stateWords(drawing, drawing.state(step)[token]), ...links, ...numbers].join(", ");
  return `${text}${tokenName(drawing, step, token)}: ${words}`;
}

// What a token is that is no ordinary text, by its role.
const ROLE_WORDS = { added: "put there by the tokenizer itself", special: "a special token, typed",
  unknown: "not in the vocabulary: the model sees one sign for all such words" };

function tokenCard(drawing, step, token, extra) {
  const hidden = drawing.hides(step, token), text = drawing.text(step, token), truth = drawing.layout.truth[token];
  const card = el("div", { class: "ts-card", role: "tooltip" });
  const head = el("div", { class: "ts-card-head" });
  if (text && !hidden) head.append(drawing.layout.graph ? el("b", { text: plainly(text, 300) })
    : el("b", { class: "ts-piece", text: shortText(text) }));
  head.append(el("span", { text: tokenName(drawing, step, token) }));
  card.append(head, el("div", { class: "ts-card-state", text: stateWords(drawing, drawing.state(step)[token]) }));
  const lists = drawing.candidates(step, token).slice(0, 3);
  const rows = Object.entries(drawing.fields).filter(([name]) => !saidBelow(drawing, name, lists))
    .map(([name, scale]) => [scale, drawing.number(step, name, token)]).filter(([, value]) => value !== null)
    .map(([scale, value]) => [scale.title, scaled(scale, value)]);
  if (truth) rows.push(["Truth", shortText(truth)]);
  const before = drawing.layout.labels[token]; // the word that another one stands for
  const replaced = drawing.layout.kind === "text" && !hidden && before && before !== text;
  if (replaced) rows.push(["Original", shortText(before)]);
  if (ROLE_WORDS[drawing.layout.roles[token]]) rows.push(["Token", ROLE_WORDS[drawing.layout.roles[token]]]);
  rows.push(...neighbours(drawing, step, token).map(([title, nodes]) => [title, neighbourWords(drawing, step, nodes)]));
  const list = el("dl", { class: "ts-numbers" });
  for (const [title, value] of [...rows, ...extra]) list.append(el("dt", { text: title }), el("dd", { text: value }));
  if (list.children.length) card.append(list);
  card.append(...candidateLists(lists, 5, step));
  const links = drawing.links(step, token).slice(0, 3);
  for (const link of links) card.append(el("div", { class: "ts-soft", text: linkWords(drawing, step, token, link) }));
  return card;
}

// A number of a scale with its unit; what lies beyond a capped scale is at least its end.
function scaled(scale, value) {
  return `${scale.capped && value >= scale.high ? "≥ " : ""}${amount(value, scale.unit, scale.whole)}`;
}

// A number that the card says once more further down, of one head or of a list of candidates: one value is enough.
function saidBelow(drawing, name, lists) {
  const a = drawing.attention;
  return (a && name in a.quantities) || (name === "entropy" && lists.length > 0);
}

function linkWords(drawing, step, token, link) {
  const other = link.query === token ? link.key : link.query, way = link.query === token ? "to" : "from";
  const piece = drawing.worded && !drawing.hides(step, other) ? ` “${shortText(drawing.text(step, other))}”` : "";
  return `${link.name} ${way} ${tokenName(drawing, step, other)}${piece}: ${amount(link.weight)}`;
}

function shortText(text) {
  const shown = readable(text, false).replace(/\n/g, "↵").replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length));
  return shown.length > 40 ? shown.slice(0, 39) + "…" : shown;
}

// Named lists of candidates with bars; a bar's full width is probability 1.
function candidateLists(lists, limit, step) {
  return lists.map((found) => {
    const table = el("div", { class: "ts-candidates" });
    const entropy = el("span", { class: "ts-num", text: `entropy ${amount(found.entropy, "nats")}` });
    const since = found.at === undefined || found.at === step ? "" : `, ${found.label}`;
    table.append(el("div", { class: "ts-soft" }, el("span", { text: found.name + since }), entropy));
    const picked = found.items.slice(limit).filter((item) => item.chosen); // the drawn one is always shown
    for (const item of [...found.items.slice(0, limit - picked.length), ...picked]) {
      const bar = el("i");
      bar.style.width = `${Math.max(0.5, (item.p || 0) * 100)}%`;
      table.append(el("div", { class: item.chosen ? "ts-cand ts-chosen" : "ts-cand" },
        el("span", { class: "ts-piece", text: shortText(item.text) + (item.chosen ? " ✓" : "") }),
        el("span", { class: "ts-track" }, bar),
        el("span", { class: "ts-num", text: item.p === null ? "less" : percent(item.p) })));
    }
    return table;
  });
}

// Keeps the card inside the player and off what is explored: beside its token, or under the whole canvas (`docked`)
// where words or arcs around the token are what one looks at.
function placeCard(card, root, box, docked) {
  const outer = root.getBoundingClientRect(), width = card.offsetWidth, height = card.offsetHeight;
  const beside = docked ? box.left - outer.left : box.left - outer.left + box.width + 10;
  const left = Math.max(4, Math.min(beside, outer.width - width - 4));
  const covers = docked || (left < box.left - outer.left + box.width && box.left - outer.left < left + width);
  const edges = docked || box, room = window.innerHeight;
  const below = edges.bottom - outer.top + 8, above = edges.top - outer.top - height - 8;
  const fits = edges.bottom + height + 12 < room || edges.top - height < 8;
  card.style.left = `${left}px`;
  const level = Math.max(0, Math.min(box.top - outer.top, outer.height - height));
  card.style.top = `${covers ? (fits || above < 0 ? below : above) : level}px`;
}
