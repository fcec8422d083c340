// Curves over the steps, for up to three runs in one plot, and their words for who does not see them.

// Runs on one timeline: each is as wide as the plot, however many steps it has; a line that another run has as well
// (the full model's, under every rule) is drawn once, and the names say so.
function onePlace(runs) {
  const seen = new Set();
  return runs.map((run) => {
    const series = run.curve.series.map((s) => {
      const points = s.points.map(([x, y]) => [run.drawing.place(x), y]), key = JSON.stringify([s.name, points]);
      const again = seen.has(key);
      seen.add(key);
      return { ...s, points, again };
    });
    return { ...run, curve: { ...run.curve, series } };
  });
}

// A line over the steps for up to three runs; the current step is marked. runs: [{curve, name, drawing}]
function curvePlot(runs, step, total, width, page, jump) {
  const height = 118, left = 44, right = 8, top = 8, bottom = 20;
  const every = runs.flatMap((run) => run.curve.series.flatMap((s) => s.points)).filter((p) => p[1] !== null);
  const plot = svg("svg", { class: "ts-plot", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  if (!every.length) return plot;
  const { reference } = runs[0].curve, ys = every.map((p) => p[1]).concat(reference ?? []);
  const [x0, x1] = [0, Math.max(total - 1, ...every.map((p) => p[0]))];
  const [y0, y1] = roomy(Math.min(...ys), Math.max(...ys));
  const px = (x) => left + (x - x0) / Math.max(x1 - x0, 1e-9) * (width - left - right);
  const py = (y) => top + (1 - (y - y0) / Math.max(y1 - y0, 1e-9)) * (height - top - bottom);
  for (const y of [y0, (y0 + y1) / 2, y1]) {
    plot.append(svg("line", { x1: left, x2: width - right, y1: py(y), y2: py(y), stroke: page.line }),
      svg("text", { x: left - 6, y: py(y) + 3.5, "text-anchor": "end", class: "ts-number" },
        tidy(Math.abs(y) < (y1 - y0) * 1e-3 ? 0 : y)));
  }
  const first = runs[0].drawing.view.first ?? 1, named = (x) => x + first ? `step ${x + first}` : "before step 1";
  const mixed = new Set(runs.map((run) => run.drawing.frames.length)).size > 1;
  const own = runs[0].drawing.frames.filter((frame) => !frame.clean).length;
  const ends = runs[0].drawing.total ? [0, own - 1] : [x0, x1]; // its own steps, also beside a longer run
  for (const [i, x] of [x0, x1].entries()) {
    plot.append(svg("text", { x: px(x), y: height - 5, "text-anchor": x === x0 ? "start" : "end", class: "ts-number" },
      mixed ? (x === x0 ? "each run's start" : "each run's end") : named(ends[i])));
  }
  if (reference !== null) {
    plot.append(svg("line", { x1: left, x2: width - right, y1: py(reference), y2: py(reference), stroke: page.soft,
      "stroke-dasharray": "2 4" }));
  }
  const look = (r, s) => lineLook(r, s, page);
  runs.forEach((run, r) => run.curve.series.forEach((series, s) => {
    if (!series.again) plot.append(linePath(series.points, px, py, look(r, s)));
  }));
  if (step >= x0 && step <= x1) {
    plot.append(svg("line", { x1: px(step), x2: px(step), y1: top, y2: height - bottom, stroke: page.mark,
      "stroke-width": 2.5 }));
  }
  plot.addEventListener("click", (event) => {
    const at = (event.clientX - plot.getBoundingClientRect().left - left) / (width - left - right);
    jump(Math.round(x0 + Math.max(0, Math.min(1, at)) * (x1 - x0)));
  });
  return plot;
}

// A line that hardly moves is not blown up to look like news: its axis begins at zero.
function roomy(low, high) {
  const most = Math.max(Math.abs(low), Math.abs(high));
  if (high - low >= most * 0.02 && high > low) return [low, high];
  return high > 0 ? [Math.min(0, low), most * 1.25] : low < 0 ? [-most * 1.25, 0] : [0, 1];
}

function linePath(points, px, py, look) {
  const known = points.filter(([, y]) => y !== null);
  if (known.length === 1) { // no line can be drawn through one
    return svg("circle", { cx: px(known[0][0]).toFixed(1), cy: py(known[0][1]).toFixed(1), r: 3.5, fill: look.stroke });
  }
  let pen = "M", d = "";
  for (const [x, y] of points) {
    if (y !== null) d += `${pen}${px(x).toFixed(1)} ${py(y).toFixed(1)}`;
    pen = y === null ? "M" : "L";
  }
  return svg("path", { d, fill: "none", "stroke-linejoin": "round", ...look });
}

function lineLook(run, series, page) {
  const first = run === 0 ? page.accent : page.twin;
  return { stroke: series === 0 ? first : THEME.series[(series - 1) % THEME.series.length],
    "stroke-width": run === 0 ? 2 : 1.6,
    "stroke-dasharray": run === 0 ? THEME.dashes[series % THEME.dashes.length] : ["5 3", "2 3"][(run - 1) % 2] };
}

// `recap: from 0.2 to 0.9, here 0.4`: a line for those who do not see it.
function lineWords(run, series, step) {
  const known = series.points.filter(([, y]) => y !== null), here = known.find(([x]) => Math.abs(x - step) < 0.5);
  if (!known.length) return `${run.name}: no values`;
  const name = `${run.name}${run.curve.series.length > 1 ? `, ${series.name}` : ""}`;
  const now = here ? `, here ${tidy(here[1])}` : "";
  return `${name}: from ${tidy(known[0][1])} to ${tidy(known.at(-1)[1])}${now}`;
}

// Where the others only repeat some of the first run's lines (a control whose network stands among the method's), a
// line's own name is enough: a run's in front of it would read as part of it.
function repeated(runs) {
  const most = runs[0].curve.series.length;
  return runs.slice(1).every(({ curve }) => curve.series.length < most && curve.series.every((s) => s.again));
}

function runNames(runs, page) {
  const names = el("div", { class: "ts-runs" }), alone = repeated(runs);
  runs.forEach((run, r) => run.curve.series.forEach((series, s) => {
    if (alone && r > 0) return;
    const line = svg("svg", { width: 26, height: 8, "aria-hidden": "true" });
    if (!series.again) line.append(svg("line", { x1: 0, x2: 26, y1: 4, y2: 4, ...lineLook(r, s, page) }));
    const both = run.curve.series.length > 1 ? `${run.name}: ${series.name}` : run.name;
    const words = alone ? series.name : series.again ? `${both} (the same line)` : both;
    names.append(el("span", {}, line, el("span", { text: words })));
  }));
  return runs.length > 1 || runs[0].curve.series.length > 1 ? names : null;
}
