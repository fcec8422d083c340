// The player's controls: menus, the map of heads, the legend and the timeline. They show what the player holds
// (drawings, step, view) and change it through its methods.

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
    const left = this.drawings[0], names = [["state", "state"]], a = left.attention;
    if (left.frames.some((frame) => frame.by)) names.unshift(["auto", "what the step is about"]);
    for (const drawing of this.drawings) {
      for (const [name, scale] of Object.entries(drawing.fields)) {
        const known = names.some(([n]) => n === name) || (a && a.linked && a.quantities[name]);
        if (!known) names.push([name, scale.title.toLowerCase()]);
      }
    }
    if (a) {
      names.push(["attention:row", "attention of one token"]);
      for (const [name, q] of Object.entries(a.quantities)) names.push([`attention:${name}`, q.title.toLowerCase()]);
    }
    return names;
  }

  chosen() {
    const a = this.drawings[0].attention, linked = a && a.linked ? { layer: this.drawings[0].at(this.step) } : {};
    const pinned = this.pinned === null ? {} : { query: this.pinned };
    return { ...this.drawings[0].view, ...this.view, ...linked, ...pinned };
  }

  attentionMenus() {
    const a = this.drawings[0].attention;
    this.layers.fill(a && !a.linked ? a.layers.map((name, i) => [String(i), `${name + 1}`]) : []);
    const heads = a ? Array.from({ length: a.heads }, (_, h) => [String(h), `${h + 1}`]) : [];
    this.heads.fill(a ? [["-1", "mean of all"], ...heads] : []);
    this.map.hidden = this.mapTitle.hidden = !a || !Object.keys(a.quantities).length;
    if (this.map.hidden) return;
    const choose = (layer, head) => {
      Object.assign(this.view, { layer, head });
      if (a.linked) this.go(layer); else this.show();
    };
    this.map.style.gridTemplateColumns = `repeat(${a.heads}, 18px)`;
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
      button.title = `layer ${a.layers[layer] + 1}, head ${head + 1}: mean ${quantity.title.toLowerCase()} ` +
        `${tidy(means[i])} ${quantity.unit}`;
      button.setAttribute("aria-label", button.title);
    });
    this.mapTitle.textContent = `layers down, heads across: mean ${quantity.title.toLowerCase()}, ` +
      `${tidy(low)} to ${tidy(high)} ${quantity.unit}`;
    this.layers.select.value = String(view.layer);
    this.heads.select.value = String(view.head);
  }

  legends() {
    const seen = new Map();
    for (const drawing of this.drawings) {
      for (const entry of drawing.legend) if (!seen.has(entry.state)) seen.set(entry.state, entry.title);
    }
    this.entries = [...seen].sort((a, b) => a[0] - b[0]);
  }

  paintLegend(by) {
    const left = this.drawings[0], frame = left.at(this.step);
    const attention = by.startsWith("attention:") ? numberCodes(left, frame, by, null, this.query(left)) : null;
    const scale = attention ? attention.scale : sharedScale(this.drawings, by);
    const pictured = (left.picture(frame) ?? null) !== null;
    const range = scale ? [scale.low, scale.high, scale.title] : "", entries = this.entries.map((e) => e.join());
    const key = `${by}|${this.dark}|${pictured}|${range}|${entries}|${attention && attention.missing}`;
    if (this.legendKey === key) return;
    this.legendKey = key;
    const isText = left.layout.kind === "text", over = isText ? THEME.soft : pictured ? THEME.veil : null;
    const bits = by === "state" ? this.entries : this.entries.filter(([state]) => THEME.looks[state].cue);
    this.legend.replaceChildren(...(by !== "state" && scale ? [colourBar(scale, over, this.page)] : []),
      ...(attention && attention.missing
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

function colourBar(scale, over, page) {
  const ramp = RAMPS[scale.diverging ? "diverging" : "magnitude"];
  const codes = Array.from({ length: 13 }, (_, i) => Math.round(i * 254 / 12));
  const stops = codes.map((code) => rgba(ramp[code], over ? softShare(code, scale.diverging, over) : 1));
  const bar = el("span", { class: "ts-bar", "aria-hidden": "true" }), unit = scale.unit ? ` ${scale.unit}` : "";
  bar.style.background = `linear-gradient(to right, ${stops.join(", ")}), ${page.panel}`;
  return el("span", { class: "ts-scale" },
    el("span", { text: scale.title }), el("span", { class: "ts-num", text: tidy(scale.low) }),
    bar, el("span", { class: "ts-num", text: `${tidy(scale.high)}${unit}` }));
}

// A legend key: the state as a small cell, or as a letter where tokens are text.
function swatch(look, dark, page, isText) {
  const made = el("canvas", { class: "ts-swatch", width: 28, height: 28, "aria-hidden": "true" });
  const context = made.getContext("2d"), own = dark ? look.dark : look.light;
  const plain = isText && ["visible", "known", "context", "dropped"].includes(look.name);
  context.beginPath();
  context.roundRect(0.5, 0.5, 27, 27, 5);
  context.clip();
  const share = look.fade < 1 ? 0.4 : isText ? 0.3 : Math.max(look.tint, 0.55);
  context.fillStyle = plain ? page.panel : look.hides ? own : rgba(own, share);
  context.fillRect(0, 0, 28, 28);
  if (isText && !look.hides) {
    context.fillStyle = look.cue === "hatch" ? page.soft : page.ink;
    context.font = "20px system-ui, sans-serif";
    context.textAlign = "center";
    context.fillText("a", 14, 20);
  }
  if (look.cue) cuePath(context, look.cue, 0, 0, 28, { edge: own }, page);
  if (plain || look.name === "context") {
    context.strokeStyle = page.line;
    context.lineWidth = 3;
    context.strokeRect(0, 0, 28, 28);
  }
  return made;
}
