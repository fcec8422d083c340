// The player: up to three canvases side by side, one timeline under all of them, and everything that hangs on a step.
// Nothing here calls the server while stepping; "pick", "row" and "intervene" alone can reach Python.

const SIDES = ["left", "right", "third"];
const SPEEDS = [["0.5", "half speed"], ["1", "normal"], ["2", "double"], ["4", "fourfold"]];

class Player extends Controls {
  constructor(root, trigger) {
    super();
    Object.assign(this, { root, trigger, step: 0, by: "state", speed: 1, timer: null, views: [], drawings: [], view: {},
      pinned: null });
    this.pointed = null;
    this.build();
    this.watchTheme();
    new ResizeObserver(() => this.resized()).observe(root);
    document.addEventListener("pointerup", () => { this.dragging = null; });
  }

  build() {
    const button = (text, label, act) => el("button",
      { type: "button", class: "ts-round", text, "aria-label": label, title: label, onclick: act });
    this.sides = el("div", { class: "ts-sides" });
    this.play = button("▶", "Play", () => this.toggle());
    this.slider = el("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Step",
      oninput: () => this.go(this.order[Number(this.slider.value)]) });
    this.where = el("output", { class: "ts-where ts-num" });
    this.strip = svg("svg", { class: "ts-strip", "aria-hidden": "true", height: 22 });
    this.speeds = this.menu("Speed", SPEEDS, (value) => { this.speed = Number(value); });
    this.speed = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0.5 : 1;
    this.speeds.select.value = String(this.speed);
    this.levels = this.menu("Stop at", [], (value) => { this.level = value; this.go(this.step); this.timeline(); });
    this.colours = this.menu("Colour by", [], (value) => { this.by = this.wished = value; this.show(); });
    this.clean = el("button", { type: "button", class: "ts-switch", text: "Picture only", "aria-pressed": "false",
      title: "Hides all marks", onclick: () => this.undress(!this.bare) });
    this.layers = this.menu("Layer", [], (value) => { this.view.layer = Number(value); this.show(); });
    this.heads = this.menu("Head", [], (value) => { this.view.head = Number(value); this.show(); });
    this.map = el("div", { class: "ts-map", role: "group", "aria-label": "Layers and heads" });
    this.mapTitle = el("div", { class: "ts-soft ts-map-title" });
    this.legend = el("div", { class: "ts-legend" });
    this.moment = el("div", { class: "ts-moment" });
    this.curves = el("div", { class: "ts-curves" });
    this.live = el("div", { class: "ts-sr", "aria-live": "polite" });
    this.time = el("div", { class: "ts-time" },
      this.play, el("div", { class: "ts-track-box" }, this.slider, this.strip), this.where,
      fullScreen(this.root, () => this.drawings.length && this.resized()));
    this.stage = el("div", { class: "ts-stage" }, this.time,
      el("div", { class: "ts-controls" },
        this.clean, this.colours.box, this.layers.box, this.heads.box, this.levels.box, this.speeds.box),
      this.mapTitle, this.map, this.legend, this.moment);
    this.turnBox = el("div");
    this.changeBox = el("div");
    this.root.replaceChildren(this.turnBox, this.sides, this.changeBox, this.stage, this.curves, this.live);
    this.root.setAttribute("role", "region");
    this.root.setAttribute("aria-label", "Picture and player");
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  // ------------------------------------------------------------------------------------------------ a new value
  load(value) {
    if (!value) return;
    if (value.row) return this.addRow(value.row);
    const before = this.drawings[0], atEnd = !before || this.step >= this.total - 1, wasLoading = this.loading;
    this.drawings = SIDES.map((side) => value[side] && new Drawing(value[side])).filter(Boolean);
    this.names = SIDES.filter((side) => value[side]);
    this.loading = value.loading;
    if (!this.drawings.length) return this.empty();
    for (const other of this.drawings.slice(1)) other.alignTo(this.drawings[0]);
    this.total = Math.max(...this.drawings.map((d) => d.beside ? d.beside.length : d.frames.length));
    // A run that is still going on has no length yet; then the same numbers stand beside each other.
    for (const drawing of this.drawings) drawing.total = this.loading ? 0 : this.total;
    const left = this.drawings[0], same = before && before.method === left.method && before.tab === left.tab;
    if (!same) this.wished = null;
    // what nobody chose follows the picture: while a run grows, numbers appear that its first steps lacked
    const chosen = this.wished && this.allowed().some(([name]) => name === this.wished);
    this.by = value.turn ? "state" : chosen ? this.wished : left.view.by || "state"; // a turn has no room for a scale
    if (!same) this.view = {};
    this.turn = value.turn ? new Turn(value.turn, left.size, () => this.turn && this.show(),
      (groups) => this.trigger("pick", { groups })) : null;
    this.change = value.change && !this.turn && !this.loading
      ? new Change(value.change, (message) => this.trigger("intervene", message)) : null;
    this.rebuild();
    const start = Math.round(left.place(left.view.start ?? left.frames.length - 1)); // on the common timeline
    if (this.turn && this.root.getBoundingClientRect().top < 0) this.root.scrollIntoView(); // its button is far below
    const watched = this.turn && this.turn.watches(left) && left.frames.at(-1).clean; // drafts have marks
    if (this.turn && value.turn.options) this.step = this.total - (watched ? 2 : 1); // the open place is the last one
    else if (Number.isInteger(value.step)) this.step = value.step;
    else if (this.loading || (wasLoading && atEnd)) this.step = this.total - 1;
    else if (!same) this.step = start;
    this.go(this.step);
  }

  empty() {
    this.stop();
    const words = this.loading ? "Working on the first step …" : "Nothing drawn yet.";
    this.sides.replaceChildren(el("div", { class: "ts-empty", text: words }));
    this.stage.hidden = true;
    this.changeBox.replaceChildren();
    this.curves.replaceChildren();
  }

  rebuild() {
    this.stage.hidden = false;
    const shown = this.turn ? [this.drawings[0]] : this.drawings;
    const pinned = this.views.length === shown.length ? this.pinned : null;
    this.pinned = pinned !== null && pinned < this.drawings[0].size ? pinned : null;
    this.sides.dataset.count = shown.length;
    this.views = shown.map((drawing, side) => this.panel(drawing, side));
    for (const view of this.views) view.box.addEventListener("scroll", () => this.scrolled(view));
    this.sides.replaceChildren(...this.views.map((view) => view.panel));
    this.turnBox.replaceChildren(...(this.turn ? [this.turn.bar] : []));
    this.changeBox.replaceChildren(...(this.change ? [this.change.bar] : []));
    this.stage.classList.toggle("ts-choosing", Boolean(this.turn));
    this.curves.hidden = Boolean(this.turn);
    this.colours.fill(this.allowed());
    this.colours.select.value = this.by;
    this.attentionMenus();
    const nested = this.drawings.some((d) => d.frames.some((f) => f.parent !== undefined));
    const outer = this.drawings[0].frames[0].level || "step";
    this.levels.fill(nested ? [["", "every step"], ["outer", `each ${outer}`]] : []);
    this.level = nested && this.level === "outer" ? "outer" : "";
    this.levels.select.value = this.level;
    this.time.classList.toggle("ts-still", this.total < 2);
    this.speeds.box.hidden = this.total < 3;
    this.timeline();
    this.legends();
  }

  panel(drawing, side) {
    const act = {
      name: (token) => view.targets[token].setAttribute("aria-label", spoken(drawing, drawing.at(this.step), token)),
      point: (token) => this.point(side, token),
      press: (token, event) => this.press(side, token, event),
    };
    const view = viewOf(drawing, act);
    view.drawing = drawing;
    view.act = act;
    view.caption = el("p", { class: "ts-caption" });
    view.label = el("div", { class: "ts-label ts-soft" });
    view.answer = drawing.asked && !this.turn ? el("b", { class: "ts-answer" }) : null;
    view.panel = el("section", { class: "ts-panel", "aria-label": drawing.title },
      el("header", { class: "ts-head" }, el("h2", { text: drawing.title }), this.turn ? null : headlineOf(drawing)),
      this.turn ? null : view.caption,
      view.answer ? el("p", { class: "ts-asked" }, el("span", { text: drawing.asked }), view.answer) : null,
      view.box, view.label,
      this.turn ? null : el("div", { class: "ts-folds" }, this.foldedFacts(drawing), this.foldedFlow(drawing)));
    view.layer.setAttribute("aria-label", drawing.alt);
    return view;
  }

  // Texts side by side scroll together.
  scrolled(view) {
    for (const other of this.views) {
      const away = other !== view && Math.abs(other.box.scrollTop - view.box.scrollTop) > 2;
      if (away) other.box.scrollTop = view.box.scrollTop;
    }
  }

  // ------------------------------------------------------------------------------------------------ stepping
  get longest() { return this.drawings.find((d) => d.frames.length === this.total) || this.drawings[0]; }

  get order() {
    const every = Array.from({ length: this.total }, (_, i) => i);
    if (this.level !== "outer") return every;
    const longest = this.longest;
    return every.filter((i) => longest.frames[i].parent === undefined);
  }

  go(step) {
    const order = this.order, wanted = Math.max(0, Math.min(step, this.total - 1));
    const place = Math.max(0, order.findLastIndex((i) => i <= wanted));
    this.step = order[place];
    this.slider.max = String(order.length - 1);
    this.slider.value = String(place);
    const words = this.placeWords(place, order.length), waiting = this.loading === true ? "running …" : this.loading;
    this.slider.setAttribute("aria-valuetext", words);
    this.where.textContent = waiting || words;
    Object.assign(this.root.dataset, { step: this.step, method: this.drawings[0].method });
    this.show();
    this.root.dispatchEvent(new CustomEvent("tokenscope-step", { bubbles: true, detail: { step: this.step } }));
  }

  move(by) {
    const order = this.order, last = order.length - 1;
    this.go(order[Math.max(0, Math.min(last, order.indexOf(this.step) + by))]);
  }

  toggle() { if (this.timer) this.stop(); else this.start(); }

  start() {
    if (this.step >= this.order.at(-1)) this.go(0);
    this.play.textContent = "❚❚";
    this.play.setAttribute("aria-label", "Pause");
    const next = () => {
      this.move(1);
      if (this.step >= this.order.at(-1)) this.stop(); else tick();
    };
    const tick = () => { this.timer = setTimeout(next, 700 / this.speed); };
    tick();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.play.textContent = "▶";
    this.play.setAttribute("aria-label", "Play");
  }

  key(event) {
    if (["SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
    if (event.altKey || event.ctrlKey || event.metaKey || this.turn) return;
    const isSlider = event.target === this.slider;
    const act = { PageDown: () => this.move(1), PageUp: () => this.move(-1),
      ArrowRight: () => this.move(1), ArrowLeft: () => this.move(-1),
      Home: () => this.go(0), End: () => this.go(this.total - 1) }[event.key];
    if (event.key === " " && isSlider) { event.preventDefault(); this.toggle(); return; }
    if (!act || (event.target.tagName === "INPUT" && !isSlider)) return;
    event.preventDefault();
    act();
  }

  // ------------------------------------------------------------------------------------------------ painting
  show() {
    if (!this.drawings.length || !this.views.length) return;
    const began = performance.now(), bys = this.drawings.map((d) => this.colouring(d));
    this.views.forEach((view) => {
      const d = view.drawing, step = d.at(this.step), frame = d.frames[step];
      const by = this.colouring(d), shared = sharedScale(this.drawings, by, d);
      const choosing = this.chooses(d);
      const marks = choosing ? this.turn.marks(d, this.page)
        : marksOf(d, step, { by, dark: this.dark, shared, view: this.query(d) });
      view.whole = by === "picture"; // a picture without marks has no hairlines either
      view.paint(marks, step, this.page, () => this.show(), choosing);
      const notes = [frame.note, this.own(d)].filter(Boolean).map((words) => ` · ${words}`);
      view.caption.replaceChildren(el("b", { text: frame.label }), ...unbroken(notes.join("")));
      view.label.textContent = this.turn ? "" : costWords(frame.cost);
      if (view.answer) view.answer.textContent = answerOf(d, step);
      this.mark(view, marks);
      flash(view, marks, step, this.page);
    });
    if (this.change) this.change.refresh(this.drawings[0], this.drawings[0].at(this.step), this.chosen());
    if (this.change) this.change.mark(this.views, this.step);
    this.paintLegend(bys);
    this.paintMap();
    this.paintMoment();
    this.paintCurves();
    this.cursor();
    this.announce();
    this.root.dataset.paint = (performance.now() - began).toFixed(1);
  }

  // Which of its own steps a run shows, where another's number stands under the slider.
  own(drawing) {
    const every = drawing.frames.length, step = drawing.at(this.step) + 1, count = every - drawing.clean;
    return every === this.total || this.loading || step > count ? "" : `its step ${step} of ${count}`;
  }

  // Whose row is shown: the pointed token's where its row is known, else the pressed one's, else the one asked for.
  query(drawing, follows = this.by === "attention:row") {
    const view = this.chosen(drawing), at = follows ? this.pointed : null;
    const hovered = at ? { ...view, query: at.token } : view;
    return drawing.attention && attentionRow(drawing, hovered, headsOf(drawing, hovered)) ? hovered : view;
  }

  chooses(drawing) { return Boolean(this.turn) && !this.turn.watches(drawing); }

  mark(view, marks) {
    const chosen = this.chooses(view.drawing) ? new Set(this.turn.picked) : null;
    const query = this.by === "attention:row" && !this.bare ? this.query(view.drawing).query : -1;
    if (chosen) view.targets.forEach((target, token) => {
      target.setAttribute("aria-selected", String(chosen.has(token)));
      target.dataset.group = marks[token].number;
    });
    for (const marked of view.layer.querySelectorAll(".ts-query")) marked.classList.remove("ts-query");
    if (view.targets[query]) view.targets[query].classList.add("ts-query");
    // A focused token is named at once; the others, cells without text, when the visitor rests.
    clearTimeout(view.naming);
    if (!(view instanceof CellView)) return;
    view.naming = setTimeout(() => view.targets.slice(0, 1024).forEach((_, token) => view.act.name(token)), 600);
  }

  // What belongs to the step itself: the distributions of the newest tokens, and the trials beside this one.
  paintMoment() {
    const blocks = this.turn ? [] : this.views.map(
      (view) => momentBlock(view.drawing, view.drawing.at(this.step), (step) => this.go(step)));
    this.moment.dataset.count = this.views.length;
    this.moment.replaceChildren(...(blocks.some(Boolean) ? blocks.map((b) => b || el("div")) : []));
  }

  paintCurves() {
    const width = this.width || (this.width = this.root.clientWidth);
    if (this.turn || !width) return;
    const titles = [...new Set(this.drawings.flatMap((d) => d.curves.map((c) => c.title)))].slice(0, 3);
    this.curves.dataset.count = titles.length;
    this.curves.replaceChildren(...titles.map((title) => {
      const runs = onePlace(this.drawings.map((d) => (
        { name: d.title, curve: d.curves.find((c) => c.title === title), drawing: d })).filter((run) => run.curve));
      const { unit, caption } = runs[0].curve, half = width > 760 && titles.length > 1;
      const room = (half ? (width - 18) / 2 : width) - 34;
      const total = this.longest.frames.filter((frame) => !frame.clean).length;
      const plot = curvePlot(runs, this.step, total, room, this.page, (x) => this.go(x));
      const words = runs.flatMap((run) => run.curve.series.map((s) => lineWords(run, s, this.step))).join("; ");
      plot.setAttribute("aria-label", `${title}, ${unit}, over the steps: ${words}`);
      return el("figure", { class: "ts-panel ts-curve" },
        el("header", { class: "ts-head" }, el("h3", { text: title }), el("span", { class: "ts-main", text: unit })),
        plot, runNames(runs, this.page), caption ? el("figcaption", { class: "ts-soft", text: caption }) : null);
    }));
  }

  resized() {
    const width = this.root.clientWidth;
    if (width === this.width || !this.drawings.length) return;
    this.width = width;
    for (const view of this.views) view.width = 0;
    requestAnimationFrame(() => { this.timeline(); this.show(); });
  }

  // ------------------------------------------------------------------------------------------------ pointing
  point(side, token) {
    const dragging = this.dragging ?? null;
    if (dragging !== null && token !== null && this.turn) this.turn.press(token, dragging);
    if (this.pointed && this.pointed.side === side && this.pointed.token === token) return;
    this.pointed = token === null ? null : { side, token };
    if (this.by === "attention:row" && !this.turn) this.show(); else this.cursor();
  }

  // The card and the ring follow the pointed token; the same token is ringed in the other pictures.
  cursor() {
    const at = this.pointed;
    this.views.forEach((view) => {
      const target = at && view.targets[at.token];
      if (view.ringed && view.ringed !== target) view.ringed.classList.remove("ts-ring");
      if (target) target.classList.add("ts-ring");
      view.ringed = target || null;
      paintLinks(view, this.linksOf(view.drawing), this.page);
    });
    if (this.card) this.card.remove();
    this.card = null;
    const view = at && this.views[at.side];
    if (!view || this.turn || !view.targets[at.token]) return;
    const drawing = view.drawing, step = drawing.at(this.step);
    if (drawing.absent(step, at.token)) return;
    this.card = tokenCard(drawing, step, at.token, this.attentionNumbers(drawing, at.token));
    this.root.append(this.card);
    const docked = drawing.layout.kind === "text" || drawing.attention;
    placeCard(this.card, this.root, view.targets[at.token].getBoundingClientRect(),
      docked ? view.box.getBoundingClientRect() : null);
  }

  attentionNumbers(drawing, token) {
    if (!drawing.attention) return [];
    const view = this.query(drawing), found = [];
    for (const [name, q] of Object.entries(drawing.attention.quantities)) {
      const { codes } = attentionCodes(drawing, name, view, drawing.at(this.step));
      if (codes[token] !== THEME.nothing) found.push([q.title, `${tidy(unscale(q, codes[token]))} ${q.unit}`]);
    }
    return found;
  }

  press(side, token, event) {
    if (event && event.button) return;
    if (this.turn) {
      if (event) event.preventDefault();
      this.dragging = this.turn.press(token);
      if (!event) this.dragging = null;
      return;
    }
    const drawing = this.views[side].drawing;
    if (this.change && side === 0) this.change.press(drawing, drawing.at(this.step), token);
    if (!drawing.attention) return;
    this.pinned = token;
    if (!this.by.startsWith("attention:")) {
      this.by = this.wished = "attention:row";
      this.colours.select.value = this.by;
    }
    if (!attentionRow(drawing, this.chosen(), headsOf(drawing, this.chosen()))) {
      if (this.chosen().head < 0) this.view.head = 0; // one head is asked for, not a mean of all
      const { layer, head } = this.chosen();
      const stored = attentionRow(drawing, this.chosen(), [head]);
      if (!stored) this.trigger("row", { side: this.names[side], layer, head, query: token });
    }
    this.show();
  }

  addRow(row) {
    const drawing = this.drawings[this.names.indexOf(row.side)];
    if (!drawing || row.weights.length === 0) return;
    const weights = Float64Array.from({ length: drawing.size }, (_, i) => row.weights[i] ?? 0);
    drawing.extraRows.set(`${row.layer} ${row.head} ${row.query}`, weights);
    this.show();
  }
}

function mountInGradio(element, props, trigger, watch) {
  if (!document.getElementById("ts-plots")) document.head.append(el("style", { id: "ts-plots", text: PLOT_CSS }));
  const player = new Player(element.querySelector(".ts"), trigger);
  const show = () => { if (props.value) player.load(JSON.parse(props.value)); };
  watch("value", show);
  element.querySelector(".ts").player = player;
  show();
}
