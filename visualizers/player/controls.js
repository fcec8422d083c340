// The player's controls: menus, the map of heads, the legend and the timeline. They show what the player holds
// (drawings, step, view) and change it through its methods.

const TALL = 12; // layers up to which they stand below each other

class Controls {
  menu(title, options, act) {
    const select = el("select", { onchange: () => act(select.value) });
    const box = el("label", { class: "ts-menu" }, el("span", { text: title }), select);
    const fill = (entries) => {
      select.replaceChildren(...entries.map(([value, text]) => el("option", { value, text })));
      box.hidden = entries.length < 2;
    };
    fill(options);
    return { box, select, fill };
  }

  watchTheme() {
    const marked = () => [document.body, document.documentElement].some((place) => place.classList.contains("dark"));
    const dark = () => marked() ||
      (this.root.dataset.follow === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
    const apply = () => {
      this.dark = dark();
      this.root.dataset.theme = this.dark ? "dark" : "light";
      this.page = THEME.page[this.root.dataset.theme];
      if (this.drawings.length) this.show();
    };
    for (const target of [document.body, document.documentElement]) {
      new MutationObserver(apply).observe(target, { attributes: true, attributeFilter: ["class"] });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
    apply();
  }

  allowed() {
    const left = this.drawings[0], names = [["state", "nothing, states only"]], a = left.attention;
    if (left.frames.some((frame) => frame.by)) names.unshift(["auto", "what the step is about"]);
    for (const drawing of this.drawings) {
      for (const [name, scale] of Object.entries(drawing.fields)) {
        const known = names.some(([n]) => n === name) || (a && a.linked && a.quantities[name]);
        if (!known) names.push([name, scale.title.toLowerCase()]);
      }
    }
    if (a) {
      names.push(["attention:row", a.title.toLowerCase()]);
      for (const [name, q] of Object.entries(a.quantities)) names.push([`attention:${name}`, q.title.toLowerCase()]);
    }
    return names;
  }

  chosen(drawing = this.drawings[0]) {
    const a = this.drawings[0].attention, step = this.drawings[0].at(this.step);
    const linked = a && a.linked ? { layer: layerAt(a, step, 0) } : {};
    const { query } = drawing.view || {}, own = this.pinned === null || this.pinned >= drawing.size;
    return { ...this.drawings[0].view, ...this.view, ...linked, query: own ? query : this.pinned };
  }

  attentionMenus() {
    const a = this.drawings[0].attention;
    this.layers.fill(a && !a.linked ? a.layers.map((name, i) => [String(i), `${name + 1}`]) : []);
    const heads = a && a.heads > 1 ? Array.from({ length: a.heads }, (_, h) => [String(h), `${h + 1}`]) : [];
    this.heads.fill(heads.length ? [["-1", "mean of all"], ...heads] : []);
    this.map.hidden = this.mapTitle.hidden = !a || !Object.keys(a.quantities).length;
    if (this.map.hidden) return;
    const choose = (layer, head) => {
      Object.assign(this.view, { layer, head });
      if (a.linked) this.go(layer + a.before); else this.show();
    };
    const lying = a.layers.length > TALL, grid = `repeat(${a.heads}, 18px)`; // a deep network's map lies on its side
    Object.assign(this.map.style, lying ? { gridTemplateColumns: "", gridTemplateRows: grid, gridAutoFlow: "column" }
      : { gridTemplateColumns: grid, gridTemplateRows: "", gridAutoFlow: "row" });
    this.map.replaceChildren(...a.layers.flatMap((name, layer) => Array.from({ length: a.heads }, (_, head) =>
      el("button", { type: "button", "data-layer": layer, "data-head": head, onclick: () => choose(layer, head) }))));
  }

  paintMap() {
    if (this.map.hidden) return;
    const drawing = this.drawings[0], a = drawing.attention, view = this.chosen();
    const named = this.by.startsWith("attention:") && a.quantities[this.by.slice(10)];
    const name = named ? this.by.slice(10) : Object.keys(a.quantities)[0];
    const quantity = a.quantities[name], codes = drawing.array(quantity.codes), n = drawing.size;
    const means = Array.from({ length: a.layers.length * a.heads }, (_, i) => {
      const known = codes.subarray(i * n, i * n + n).filter((c) => c !== THEME.nothing);
      return unscale(quantity, known.reduce((s, c) => s + c, 0) / Math.max(1, known.length));
    });
    const low = Math.min(...means), high = Math.max(...means), scale = { low, high: high > low ? high : low + 1 };
    [...this.map.children].forEach((button, i) => {
      const layer = Math.floor(i / a.heads), head = i % a.heads;
      button.style.background = RAMPS.magnitude[codeOf(scale, means[i])];
      button.setAttribute("aria-pressed", String(layer === view.layer && (head === view.head || view.head < 0)));
      button.title = `${a.names[layer] ?? `layer ${a.layers[layer] + 1}`}, head ${head + 1}: ` +
        `mean ${quantity.title.toLowerCase()} ${amount(means[i], quantity.unit)}`;
      button.setAttribute("aria-label", button.title);
    });
    const heads = a.heads > 1, many = a.layers.length > TALL;
    const ways = many ? `layers across${heads ? ", heads down" : ""}` : `layers down${heads ? ", heads across" : ""}`;
    const all = a.names.length ? ` (${a.names[0]} … ${a.names.at(-1)})` : ""; // several models, one behind the other
    this.mapTitle.textContent = `${ways}${all}: mean ${quantity.title.toLowerCase()}, ` +
      `${tidy(low)} to ${amount(high, quantity.unit)}`;
    this.layers.select.value = String(view.layer);
    this.heads.select.value = String(view.head);
  }

  // Arcs from the token that looks, or the links of the pointed one.
  linksOf(drawing) {
    const at = this.pointed, step = drawing.at(this.step);
    if (this.turn || this.bare) return [];
    if (drawing.attention && (at || this.by === "attention:row")) {
      const view = this.query(drawing, true), asked = { ...view, layer: layerAt(drawing.attention, step, view.layer) };
      return arcsOf(drawing, asked, headsOf(drawing, asked));
    }
    return at && at.token < drawing.size ? drawing.links(step, at.token) : [];
  }

  // Steps are counted as the method counts them: reading the prompt is none, nor is the finished picture.
  placeWords(place, count) {
    const d = this.longest, first = d.view.first ?? 1, clean = d.frames.filter((frame) => frame.clean).length;
    if (place >= count - clean) return d.frames.at(place - count).label;
    return place + first ? `step ${place + first} of ${count - 1 + first - clean}` : "before step 1";
  }

  // What colours a drawing now: the menu's choice, what its step is about, or nothing where all marks are off.
  colouring(drawing) { return this.bare ? "picture" : resolved(drawing, drawing.at(this.step), this.by); }

  undress(bare) {
    this.bare = bare;
    this.clean.setAttribute("aria-pressed", String(bare));
    this.show();
  }

  announce() {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      const d = this.drawings[0], step = d.at(this.step), counts = new Map();
      for (const code of d.state(step)) counts.set(code, (counts.get(code) || 0) + 1);
      const words = [...counts].map(([code, n]) => `${n} ${stateWords(d, code)}`).join(", ");
      this.live.textContent = `Step ${step + 1} of ${d.frames.length}, ${d.frames[step].label}: ${words}`;
    }, 500);
  }

  // How the data flows through a method, folded under its picture; drawn when it is opened.
  foldedFlow(drawing) {
    const flow = drawing.view.flow || [];
    if (!flow.length) return null;
    const box = el("details", { class: "ts-more", ontoggle: () => {
      if (box.open) box.replaceChildren(box.firstChild, flowChart(flow, box.clientWidth, this.page));
    } }, el("summary", { text: "How it works" }));
    return box;
  }

  // The other facts of a picture, folded; opened in one picture, they open in all.
  foldedFacts(drawing) {
    const others = drawing.facts.filter((fact) => fact.title !== (drawing.headline || {}).title);
    if (!others.length) return null;
    const text = (fact) => el("span", {},
      el("span", { text: `${fact.title} ` }), el("b", { class: "ts-num", text: fact.text }));
    const box = el("details", { class: "ts-more ts-numbers-more", open: Boolean(this.more), ontoggle: () => {
      this.more = box.open;
      for (const each of this.sides.querySelectorAll(".ts-numbers-more")) each.open = this.more;
    } }, el("summary", { text: "More numbers" }), el("div", { class: "ts-facts" }, ...others.map(text)));
    return box;
  }

  legends() {
    const seen = new Map();
    for (const drawing of this.drawings) {
      for (const entry of drawing.legend) if (!seen.has(entry.state)) seen.set(entry.state, entry.title);
    }
    // States that look alike share one swatch and its words.
    const alike = new Map(), look = (state) => JSON.stringify({ ...THEME.looks[state], name: "" });
    for (const [state, title] of [...seen].sort((a, b) => a[0] - b[0])) {
      const same = alike.get(look(state));
      alike.set(look(state), same ? [same[0], `${same[1]}, ${title}`] : [state, title]);
    }
    this.entries = [...alike.values()];
  }

  // What colours the pictures now: every scale once, with the names of the pictures that it belongs to.
  scales(bys) {
    const found = new Map();
    this.views.forEach(({ drawing }, side) => {
      const by = bys[side], shared = sharedScale(this.drawings, by, drawing);
      if (!shared && !by.startsWith("attention:")) return;
      const asked = () => numberCodes(drawing, drawing.at(this.step), by, null, this.query(drawing));
      const numbers = shared ? { scale: shared } : asked(); // a row of attention has the range of its own weights
      if (!numbers) return;
      const { title, unit, low, high } = numbers.scale, key = JSON.stringify([title, unit, low, high]);
      const same = found.get(key) || { scale: numbers.scale, names: [], missing: false };
      const missing = same.missing || Boolean(numbers.missing);
      found.set(key, { ...same, names: [...same.names, drawing.title], missing });
    });
    return [...found.values()];
  }

  paintLegend(bys) {
    if (bys.every((by) => by === "picture")) {
      this.legendKey = "";
      return void this.legend.replaceChildren();
    }
    const left = this.drawings[0], scales = this.scales(bys), plain = bys.includes("state");
    const pictured = (left.picture(left.at(this.step)) ?? null) !== null, entries = this.entries.map((e) => e.join());
    const key = JSON.stringify([bys, this.dark, pictured, scales, entries]);
    if (this.legendKey === key) return;
    this.legendKey = key;
    const isText = left.layout.kind === "text", over = left.worded || pictured;
    const seen = ([state]) => THEME.looks[state].cue || THEME.looks[state].hides; // a number tints what is known
    const bits = plain ? this.entries : this.entries.filter(seen);
    const owners = ({ names }) => scales.length > 1 || names.length < bys.length ? `${names.join(", ")}: ` : "";
    const known = scales.filter((one) => !one.missing); // of a row that is not here there is no range
    this.legend.replaceChildren(...known.map((one) => colourBar(one.scale, over, this.page, owners(one))),
      ...(scales.some((one) => one.missing)
        ? [el("span", { class: "ts-soft", text: "This row was not stored; press the token to compute it." })] : []),
      ...bits.map(([state, title]) => el("span", { class: "ts-key" },
        swatch(THEME.looks[state], this.dark, this.page, isText), el("span", { text: title }))));
  }

  timeline() {
    const drawing = this.longest, width = this.slider.clientWidth || 300, order = this.order;
    const rows = order.map((i) => (drawing.frames[i].cost || {}).rows || 0);
    const peak = Math.max(...rows), some = rows.filter((r) => r > 0);
    const uneven = some.length * 2 > rows.length && Math.min(...some) < peak * 0.95;
    const heads = order.map((i) => drawing.frames[i].parent === undefined), nested = heads.some((h) => !h);
    this.strip.style.display = uneven || nested ? "" : "none";
    this.strip.setAttribute("viewBox", `0 0 ${width} 22`);
    this.strip.setAttribute("width", width);
    const pad = 8, unit = (width - 2 * pad) / Math.max(1, order.length - 1);
    this.strip.replaceChildren(...order.flatMap((_, i) => {
      const x = pad + i * unit, h = uneven && rows[i] ? 2 + 12 * rows[i] / peak : 0, made = [];
      const wide = (share, most) => Math.min(most, unit * share);
      if (h) {
        made.push(svg("rect", { x: x - Math.max(1, wide(0.3, 7)), y: 15 - h, width: Math.max(1.5, wide(0.6, 14)),
          height: h, class: "ts-cost" }));
      }
      if (nested && heads[i]) {
        made.push(svg("line", { x1: x, x2: x, y1: uneven ? 16 : 2, y2: uneven ? 21 : 8, class: "ts-group" }));
      }
      return made;
    }));
  }
}

function headsOf(drawing, view) {
  return view.head < 0 ? Array.from({ length: drawing.attention.heads }, (_, h) => h) : [view.head];
}

// At its low end a scale says no unit, unless the number reads differently with it.
function short(unit) { return unit === "probability" ? unit : ""; }

function colourBar(scale, over, page, owner) {
  const ramp = RAMPS[scale.diverging ? "diverging" : "magnitude"];
  const codes = Array.from({ length: 13 }, (_, i) => Math.round(i * 254 / 12));
  const stops = codes.map((code) => rgba(ramp[code], over ? softShare(code, scale.diverging) : 1));
  const bar = el("span", { class: "ts-bar", "aria-hidden": "true" });
  bar.style.background = `linear-gradient(to right, ${stops.join(", ")}), ${page.panel}`;
  return el("span", { class: "ts-scale" },
    el("span", { text: owner + scale.title + (scale.better ? ` (${scale.better} is better)` : "") }),
    el("span", { class: "ts-num", text: amount(scale.low, short(scale.unit)) }),
    bar,
    el("span", { class: "ts-num", text: `${scale.capped ? "≥ " : ""}${amount(scale.high, scale.unit, scale.whole)}` }));
}

// A legend key: a state as it looks on a small cell, or on a letter where tokens are text.
function swatch(look, dark, page, isText) {
  const own = dark ? look.dark : look.light;
  if (isText && !look.hides) {
    return el("span", { class: `ts-token ts-sample${look.cue ? ` ts-cue-${look.cue}` : ""}`, style: `--edge:${own}`,
      "aria-hidden": "true", text: "a" });
  }
  const made = el("canvas", { class: "ts-swatch", width: 32, height: 32, "aria-hidden": "true" });
  const context = made.getContext("2d"), piece = context.createLinearGradient(0, 0, 32, 32);
  for (const [at, share] of [[0, 0.42], [0.5, 0.16], [1, 0.34]]) {
    piece.addColorStop(at, rgba(page.soft, share * look.fade));
  }
  context.fillStyle = page.panel;
  context.fillRect(0, 0, 32, 32);
  context.fillStyle = look.hides ? THEME.cover[dark ? "dark" : "light"] : piece;
  context.fillRect(0, 0, 32, 32);
  if (look.cue) cuePath(context, look.cue, 0, 0, 32, { edge: own }, page);
  return made;
}
