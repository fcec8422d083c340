// How a number is written: the twin of visualizers/drawing/units.py.

const PLACES = ["step", "layer", "round", "map"];
const COUNTED = ["tokens", "cells", "codes", "rows", "steps", "layers", "rounds", "words", "drafts", "sequences",
  "pairs", "nats", "bits", "calls", "objects", "branches", "times", "places", "neighbours"];

function tidy(value) {
  if (!Number.isFinite(value)) return "not defined";
  for (const [size, letter] of [[1e12, " T"], [1e9, " G"], [1e6, " M"]])
    if (Math.abs(value) >= size) return Number((value / size).toPrecision(3)) + letter;
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en-US");
  const text = Number(value.toPrecision(3));
  return Math.abs(text) < 1e-4 && text !== 0 ? text.toExponential(1) : String(text);
}

// `37 %`, `layer 4`, `1 token`, `2.31 nats`; whole: only whole numbers make sense.
function amount(value, unit = "", whole = false) {
  if (!Number.isFinite(value)) return "not defined";
  if (whole) value = Math.floor(value + 0.5);
  if (unit === "yes or no") return value > 0.5 ? "yes" : "no";
  if (unit === "probability") return percent(value);
  if (whole && PLACES.includes(unit)) return `${unit} ${value}`;
  if (unit.startsWith("%") && value >= 99.95 && value < 100) return `> 99.9 ${unit}`;
  if (value && Math.abs(value) < 5e-4) return `${value < 0 ? "about 0" : "< 0.001"} ${unit}`.trim();
  const text = tidy(value);
  return `${text} ${text === "1" ? singular(unit) : unit}`.trim();
}

// A probability; what rounds to all or nothing but is not says so.
function percent(p) {
  if (p > 0 && p < 0.001) return "< 0.1 %";
  return p >= 0.9995 && p < 1 ? "> 99.9 %" : `${Number((p * 100).toPrecision(3))} %`;
}

function singular(unit) {
  const [first, ...rest] = unit.split(" ");
  const odd = { queries: "query", patches: "patch", passes: "pass", guesses: "guess" }[first];
  return [odd || (COUNTED.includes(first) ? first.slice(0, -1) : first), ...rest].join(" ");
}
