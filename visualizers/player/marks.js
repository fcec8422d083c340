// The pure part of the player: payload -> decoded drawing -> marks. visualizers/drawing/marks.py holds the same
// function in Python for the exporter; a parity test compares both. Nothing here touches the page.

const NONE = 65535;
const STATES = THEME.looks.map((look) => look.name);
const RAMPS = Object.fromEntries(Object.entries(THEME.ramps).map(([name, text]) =>
  [name, Array.from({ length: text.length / 6 }, (_, i) => "#" + text.slice(i * 6, i * 6 + 6))]));

function bytesOf(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

// Where a step stands that has no namesake: as far between those around it. named: [[theirs, mine], ...] in order.
function between(named, step) {
  const last = named.findLastIndex(([theirs]) => theirs <= step), next = last + 1;
  if (last < 0) return 0;
  const [from, mine] = named[last], [to, end] = named[next] || named[last];
  return end > mine ? mine + Math.floor((step - from) * (end - mine) / (to - from)) : mine;
}

class Drawing {
  constructor(payload) {
    Object.assign(this, payload);
    this.cache = new Map();
    this.extraRows = new Map(); // "layer head query" -> Float32Array, asked from the server
    this.images = payload.pictures.map(() => null);
    this.size = payload.layout.size;
    this.clean = payload.frames.filter((frame) => frame.clean).length; // steps at the end that show no marks
  }

  array(index, Type = Uint8Array) {
    if (!this.cache.has(index)) {
      const raw = bytesOf(this.arrays[index]);
      this.cache.set(index, Type === Uint8Array ? raw : new Type(raw.buffer));
    }
    return this.cache.get(index);
  }

  // Beside a run of another length stands the moment of the same share of the run, or of the same name (`beside`).
  at(step) {
    const last = this.frames.length - 1, theirs = this.total - 1 - this.clean;
    let share = step;
    if (step > theirs && this.total) share = last - (this.total - 1 - step); // clean ends stand beside each other
    else if (theirs > 0 && this.total !== last + 1) share = Math.round(step * (last - this.clean) / theirs);
    const asked = this.beside ? this.beside[Math.max(0, Math.min(step, this.beside.length - 1))] : share;
    return Math.max(0, Math.min(asked, last));
  }

  // Where on the common timeline a step of this run stands; between two of its steps where it is the shorter one.
  place(step) {
    if (this.beside) return Math.max(0, this.beside.findIndex((mine) => mine >= step));
    const mine = this.frames.length - 1 - this.clean, theirs = this.total - 1 - this.clean;
    return theirs > 0 && mine > 0 ? step * theirs / mine : step;
  }
  frame(step) { return this.frames[Math.max(0, Math.min(step, this.frames.length - 1))]; }

  // Steps of another run with the same names stand beside this one's, where a name means one step: of several branches
  // with trials 1 to 4 none is meant. "layer 4: keys kept" is a stage of layer 4.
  alignTo(other) {
    if (new Set(other.frames.map((frame) => frame.label)).size < other.frames.length) return;
    const mine = new Map(this.frames.map((frame, i) => [frame.label, i]));
    const found = other.frames.filter((frame) => mine.has(frame.label)).length, count = this.frames.length;
    if (other.frames.length === count || mine.size < count || found < 2 || found * 2 < count) return;
    const [theirs, ours] = [other, this].map(({ frames }) => frames.findLastIndex((frame) => !frame.clean));
    const named = other.frames.slice(0, theirs + 1)
      .map(({ label }, i) => [i, mine.get(label) ?? mine.get(label.split(": ")[0])]).filter(([, own]) => own >= 0);
    const [known, place] = named.at(-1);
    this.beside = other.frames.map((_, i) => {
      if (i <= known) return between(named, i);
      if (i > theirs) return ours + i - theirs; // clean ends stand beside each other
      return place + Math.ceil((i - known) * (ours - place) / (theirs - known)); // named otherwise: up to the end
    });
  }
  state(step) { return this.array(this.frame(step).state); }
  // Whether a cell shows the visitor's own picture at a step: a test by token, or null where no photo is kept.
  own(step) {
    const index = this.frame(step).own;
    return index === undefined ? null : (token) => this.array(index)[token] === 1;
  }

  picture(step) { return this.frame(step).picture ?? this.layout.picture; }

  text(step, token) {
    const { ids, texts } = this.frame(step), said = texts ?? ids;
    const word = said === undefined ? NONE : this.array(said, Uint16Array)[token];
    return word === NONE ? (this.layout.labels[token] ?? "") : this.words[word];
  }

  hides(step, token) { return THEME.looks[this.state(step)[token]].hides; }

  // A token that is its words, tinted and framed, and no cell of a picture.
  get worded() { return ["text", "graph"].includes(this.layout.kind); }

  // Not there yet: text that grows, a node that is still to come.
  absent(step, token) {
    return this.hides(step, token) && (this.layout.unseen === "gone" ||
      (this.layout.kind === "graph" && STATES[this.state(step)[token]] === "unknown"));
  }

  number(step, name, token) {
    const index = (this.frame(step).values || {})[name];
    const code = index === undefined ? THEME.nothing : this.array(index)[token];
    return code === THEME.nothing ? null : unscale(this.fields[name], code);
  }

  // The step in which a token was last weighed: the one shown, or the one it was born in.
  born(step, token) {
    const lists = (at) => Object.values(this.frame(at).candidates || {}), ids = this.frame(step).ids;
    const row = (c) => this.array(c.at, Uint16Array).indexOf(token), some = [];
    for (let at = step; at >= (this.hides(step, token) ? step : 0); at--) {
      if (lists(at).some((c) => row(c) >= 0)) some.push(at);
    }
    const held = ids === undefined ? NONE : this.array(ids, Uint16Array)[token];
    const drew = (c) => row(c) >= 0 && c.chosen !== null && this.array(c.chosen, Uint16Array)[row(c)] === held;
    return some.find((at) => held !== NONE && lists(at).some(drew)) ?? some[0] ?? step;
  }

  // Candidates of a token from the moment it was born: [{name, entropy, items: [{id, text, p, chosen}]}]; p null: not
  // kept.
  candidates(step, token) {
    const found = [], at = this.born(step, token);
    for (const [name, c] of Object.entries(this.frame(at).candidates || {})) {
      const row = this.array(c.at, Uint16Array).indexOf(token);
      if (row < 0) continue;
      const ids = this.array(c.ids, Uint16Array), probs = this.array(c.probs, Uint16Array);
      const chosen = c.chosen === null ? NONE : this.array(c.chosen, Uint16Array)[row];
      const picked = (j) => ids[j] === chosen && chosen !== NONE;
      const items = Array.from({ length: c.k }, (_, j) => row * c.k + j).filter((j) => probs[j] > 0 || picked(j))
        .map((j) => ({ id: this.numbers[ids[j]], text: this.words[ids[j]] ?? "unnamed",
          chosen: picked(j), p: probs[j] ? probs[j] / 65535 : null }));
      found.push({ name, at, label: this.frame(at).label, entropy: this.array(c.entropy, Float32Array)[row], items });
    }
    return found;
  }

  // Links of a step, or of one token there: [{name, query, key, weight, share}], strongest first
  links(step, token = null) {
    const found = [];
    for (const [name, e] of Object.entries(this.frame(step).edges || {})) {
      const query = this.array(e.query, Uint16Array), key = this.array(e.key, Uint16Array);
      const weight = this.array(e.weight);
      for (let i = 0; i < query.length; i++)
        if (token === null || query[i] === token || key[i] === token)
          found.push({ name, query: query[i], key: key[i], weight: weight[i] / 255 * e.peak, share: weight[i] / 255 });
    }
    return found.sort((a, b) => b.weight - a.weight);
  }
}

function unscale(scale, code) { return scale.low + code / 254 * (scale.high - scale.low); }

function codeOf(scale, value) {
  const unit = Math.min(1, Math.max(0, (value - scale.low) / Math.max(scale.high - scale.low, 1e-12)));
  return Math.floor(unit * 254 + 0.5);
}

// One range for a field over all pictures that stand side by side and mean the same by it: an error is not put on the
// scale of a variance because both are called alike. own: the picture that asks.
function sharedScale(drawings, name, own = drawings.find((d) => d && d.fields[name])) {
  const mine = own && own.fields[name];
  if (!mine) return null;
  const alike = (s) => s && s.title === mine.title && s.unit === mine.unit;
  const all = drawings.map((d) => d && d.fields[name]).filter(alike);
  return { ...mine, low: Math.min(...all.map((s) => s.low)), high: Math.max(...all.map((s) => s.high)) };
}

// The layer shown at a step: the step's own where steps are layers, else the chosen one.
function layerAt(a, step, chosen) {
  return a.linked ? Math.max(0, Math.min(step - a.before, a.layers.length - 1)) : chosen;
}

// Attention of the chosen layer, head (-1: mean) and query: {codes, scale, missing}.
function attentionCodes(drawing, quantity, view, step) {
  const a = drawing.attention, n = drawing.size;
  view = { ...view, layer: layerAt(a, step, view.layer) };
  const heads = view.head < 0 ? Array.from({ length: a.heads }, (_, h) => h) : [view.head];
  if (quantity !== "row") {
    const q = a.quantities[quantity], codes = drawing.array(q.codes), sums = new Float64Array(n);
    for (const h of heads) for (let i = 0; i < n; i++) {
      const code = codes[(view.layer * a.heads + h) * n + i];
      sums[i] += code === THEME.nothing ? NaN : unscale(q, code);
    }
    const mean = (s) => Number.isNaN(s) ? THEME.nothing : codeOf(q, s / heads.length);
    return { scale: q, codes: Uint8Array.from(sums, mean), missing: false };
  }
  const weights = attentionRow(drawing, view, heads);
  const scale = { title: a.title, unit: a.unit, low: 0, high: 1, diverging: false };
  if (!weights) return { scale, codes: new Uint8Array(n).fill(THEME.nothing), missing: true };
  scale.high = Math.max(...weights) || 1;
  return { scale, codes: Uint8Array.from(weights, (w) => codeOf(scale, w)), weights, missing: false };
}

function attentionRow(drawing, view, heads) {
  const extra = drawing.extraRows.get(`${view.layer} ${view.head} ${view.query}`);
  if (extra) return extra;
  const a = drawing.attention, r = a.rows ? a.rows.queries.indexOf(view.query) : -1;
  if (r < 0) return null;
  const codes = drawing.array(a.rows.codes), peaks = drawing.array(a.rows.peaks, Float32Array);
  const rows = a.rows.queries.length, keys = a.rows.keys, out = new Float64Array(drawing.size);
  for (const h of heads) {
    const at = (view.layer * a.heads + h) * rows + r;
    const share = (i) => codes[at * keys + i] / 255 * peaks[at] / heads.length;
    for (let i = 0; i < Math.min(keys, out.length); i++) out[i] += share(i);
  }
  return out;
}

// Arcs of one query: its strongest weights, as links with a thickness 0..1; the twin of `arcs` in marks.py.
function arcsOf(drawing, view, heads) {
  const row = attentionRow(drawing, view, heads);
  if (!row) return [];
  const weights = Array.from(row, (w, key) => key === view.query ? 0 : w), top = Math.max(...weights) || 1;
  const links = weights.map((weight, key) => ({ query: view.query, key, weight, share: weight / top }));
  return links.sort((a, b) => b.weight - a.weight).slice(0, 12).filter((link) => link.share >= 0.08);
}

// What colours the tokens: null for states, else {codes, scale}.
function numberCodes(drawing, step, by, shared, view) {
  if (by === "state" || by === "picture") return null;
  if (by.startsWith("attention:"))
    return drawing.attention ? attentionCodes(drawing, by.slice(10), view, step) : null;
  const own = drawing.fields[by], index = (drawing.frame(step).values || {})[by];
  const nothing = () => new Uint8Array(drawing.size).fill(THEME.nothing);
  if (!own || index === undefined) return { codes: nothing(), scale: shared || own };
  const codes = drawing.array(index);
  if (!shared || (shared.low === own.low && shared.high === own.high)) return { codes, scale: own };
  const moved = codes.map((c) => c === THEME.nothing ? c : codeOf(shared, unscale(own, c)));
  return { codes: moved, scale: shared };
}

// What colours a step when every step may be about something else; a clean step shows no marks.
function resolved(drawing, step, by) {
  const frame = drawing.frame(step);
  return frame.clean ? "picture" : by === "auto" ? frame.by || "state" : by;
}

// A number tints what lies under it: more for more, least in the middle of a diverging scale.
function softShare(code, diverging) {
  const strength = diverging ? Math.abs(code / 127 - 1) : code / 254;
  return Math.round((THEME.soft[0] + THEME.soft[1] * strength) * 1e4) / 1e4;
}

// A colour laid on another, as in palette.py.
function mix(over, under, share) {
  const [a, b] = [over, under].map((colour) => parseInt(colour.slice(1), 16));
  const part = (bits) => Math.floor(((a >> bits) & 255) * share + ((b >> bits) & 255) * (1 - share) + 0.5);
  return "#" + [16, 8, 0].map((bits) => part(bits).toString(16).padStart(2, "0")).join("");
}

// The text colour that reads on `fill` laid over the panel.
function inkOn(fill, share, panel) {
  const [a, b] = [fill || panel, panel].map((c) => parseInt(c.slice(1), 16)), s = fill ? share : 1;
  const mixed = [16, 8, 0].map((bits) => ((a >> bits) & 255) * s + ((b >> bits) & 255) * (1 - s));
  const bright = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2];
  return bright > 140 ? "#1d1d21" : bright > 115 ? "#000000" : "#ffffff";
}

// The marks of one frame; the twin of `cells` in marks.py.
function marksOf(drawing, step, { by = "state", dark = false, shared = null, view = {} } = {}) {
  const state = drawing.state(step), worded = drawing.worded;
  const hasPicture = !worded && (drawing.picture(step) ?? null) !== null;
  by = resolved(drawing, step, by);
  view = { ...drawing.view, ...view };
  const numbers = numberCodes(drawing, step, by, shared, view), marks = [], bare = by === "picture";
  const query = drawing.attention && by === "attention:row" ? view.query : -1;
  for (let token = 0; token < drawing.size; token++) {
    const look = token === query ? THEME.looks.at(-1) : THEME.looks[state[token]], own = dark ? look.dark : look.light;
    const text = look.hides && worded ? "" : drawing.text(step, token);
    let fill = null, share = 0;
    if (numbers && numbers.codes[token] !== THEME.nothing) {
      const code = numbers.codes[token], diverging = numbers.scale && numbers.scale.diverging;
      fill = RAMPS[diverging ? "diverging" : "magnitude"][code];
      share = worded || hasPicture ? softShare(code, diverging) : 1;
      // an empty place stays to be seen, however small its number
      if (look.hides && worded) [fill, share] = [mix(fill, THEME.cover[dark ? "dark" : "light"], share), 1];
    } else if (look.hides) {
      fill = THEME.cover[dark ? "dark" : "light"]; share = 1;
    } else if (!numbers && !worded && !hasPicture && !bare) {
      fill = own; share = look.fade;
    }
    marks.push({ token, fill, share, cue: bare ? "" : look.cue, edge: own, fade: bare ? 1 : look.fade, text });
  }
  return marks;
}
