// What says a token's state: on the edge and in the corner of its cell, never over what the cell shows. The exporter
// draws the same shapes (visualizers/export/figure.py).

const EDGES = { outline: [], double: [], check: [], strike: [], cross: [], corner: [], given: [], dashed: [0.22, 0.14],
  dotted: [0.07, 0.12] };

function cuePath(context, cue, x, y, w, mark, page, h = w, round = 0) {
  const s = Math.min(w, h), line = Math.max(1.2, Math.min(3.6, s * 0.1));
  context.save();
  if (cue === "hatch") hatch(context, x, y, w, h, page.soft, line * 0.5);
  else if (cue === "dot") dot(context, x + w / 2, y + h / 2, Math.max(1, s * 0.08), page.soft);
  else if (EDGES[cue]) edge(context, cue, [x, y, w, h, round], line, mark.edge, page);
  if (["check", "strike", "cross", "corner"].includes(cue)) corner(context, cue, x + w - s, y, s, mark.edge);
  context.restore();
}

// A frame just inside the cell; a thin line of paper inside it keeps it apart from a picture of the same colour.
function edge(context, cue, [x, y, w, h, round], line, colour, page) {
  const wide = { outline: line * 1.25, double: line, given: line * 0.5, check: line * 0.55 }[cue] || line * 0.8;
  const ring = (inset, width, style, dash) => {
    Object.assign(context, { lineWidth: width, strokeStyle: style });
    context.setLineDash(dash.map((share) => Math.max(1, share * Math.min(w, h))));
    context.beginPath();
    context.roundRect(x + inset, y + inset, w - 2 * inset, h - 2 * inset, Math.max(0, round - inset));
    context.stroke();
  };
  ring(wide + line * 0.15, line * 0.3, rgba(page.panel, 0.55), []);
  if (EDGES[cue].length) ring(wide / 2, wide, rgba(page.panel, 0.6), []);
  ring(wide / 2, wide, colour, EDGES[cue]);
  if (cue === "double") ring(wide * 1.9 + line * 0.4, line * 0.6, colour, []);
}

// The upper right corner in the state's colour; a white sign in it says which.
function corner(context, cue, x, y, s, colour) {
  const c = Math.max(5, s * 0.4), right = x + s;
  context.setLineDash([]);
  context.fillStyle = colour;
  context.beginPath();
  context.moveTo(right - c, y);
  context.lineTo(right, y);
  context.lineTo(right, y + c);
  context.fill();
  const at = (u, v) => [right - c + u * c, y + v * c];
  const signs = { check: [[[0.44, 0.24], [0.6, 0.42], [0.88, 0.1]]], strike: [[[0.5, 0.1], [0.9, 0.5]]],
    cross: [[[0.52, 0.1], [0.9, 0.48]], [[0.9, 0.1], [0.52, 0.48]]], corner: [] };
  Object.assign(context, { lineWidth: Math.max(1, c * 0.12), strokeStyle: "#ffffff", lineCap: "round" });
  for (const sign of signs[cue]) {
    context.beginPath();
    sign.forEach(([u, v], i) => context[i ? "lineTo" : "moveTo"](...at(u, v)));
    context.stroke();
  }
}

function dot(context, x, y, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

// Fine lines over the lower left half of a cell whose picture has faded.
function hatch(context, x, y, w, h, colour, line) {
  const gap = Math.max(3, Math.min(w, h) / 6);
  context.strokeStyle = rgba(colour, 0.6);
  context.lineWidth = line;
  context.beginPath();
  for (let d = gap - Math.max(0, w - h); d < h; d += gap) {
    context.moveTo(x + Math.max(0, -d), y + Math.max(0, d));
    context.lineTo(x + h - d, y + h);
  }
  context.stroke();
}

// What changed since the step before moves: a ring closes in on every cell or word that took another mark.
function flash(view, marks, step, page) {
  const keys = marks.map((mark) => `${mark.cue}${mark.text}`), before = view.keys, stepped = view.painted !== step;
  if (view.keys && !stepped) return;
  Object.assign(view, { keys, painted: step });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!before || calm) return;
  const fresh = marks.filter((mark, i) => mark.cue && keys[i] !== before[i]);
  for (const mark of fresh.length > 400 ? [] : fresh) {
    const ring = (colour, offset) => ({ outline: `2.5px solid ${colour}`, outlineOffset: `${offset}px` });
    view.targets[mark.token].animate([ring(mark.edge, 7), ring(rgba(mark.edge, 0.9), 0), ring(rgba(page.panel, 0), -1)],
      { duration: 520, easing: "ease-out" });
  }
}

// Links and arcs, as thick as they are strong: from middle to middle of cells, over a line of paper that keeps them
// apart from the picture; from top to top of words, so that the words can be read.
function paintLinks(view, links, page) {
  if (view instanceof GraphView) return view.overlay(links, page);
  const words = view instanceof TextView;
  const centre = (token) => {
    const [x, y, w, h] = view.rectangle(token);
    return [x + w / 2, words ? y + 3 : y + h / 2];
  };
  view.links.replaceChildren(...links.slice(0, 24).flatMap((link) => {
    const [x1, y1] = centre(link.query), [x2, y2] = centre(link.key);
    const bend = Math.max(12, Math.min(words ? 64 : 46, Math.hypot(x2 - x1, y2 - y1) / 3));
    const d = `M${x1} ${y1} Q${(x1 + x2) / 2} ${Math.min(y1, y2) - bend} ${x2} ${y2}`, wide = 0.8 + 4.2 * link.share;
    const line = (stroke, width, opacity) => svg("path", { d, fill: "none", stroke, "stroke-width": width,
      "stroke-opacity": opacity, "stroke-linecap": "round" });
    return [line(page.panel, wide + 1.6, words ? 0.2 : 0.7), line(page.accent, wide, 0.3 + 0.5 * link.share)];
  }));
}
