// Builds page words from data: ["tag", {attributes}, ...children]. Text enters the page as text nodes only.
const TAGS = new Set(["div", "p", "span", "b", "i", "a", "ul", "li", "dl", "dt", "dd", "table", "tbody", "thead", "tr",
  "th", "td", "details", "summary", "h2", "h3", "small", "abbr", "meter", "output", "code", "section"]);
const ATTRIBUTES = new Set(["class", "title", "scope", "open", "role", "aria-label", "aria-live", "colspan", "lang"]);
const LINK = /^(https:\/\/arxiv\.org\/abs\/[\w./-]+$|\?tab=)/;
const root = element.querySelector(".words");

// A percentage is not torn apart at the end of a line.
function words(text) {
  const whole = (part, i) => (i % 2 ? make(["span", { class: "whole" }, part]) : document.createTextNode(part));
  const parts = text.split(/([<>]?\s?[\d.,]*\d %)/);
  return parts.length < 2 ? [document.createTextNode(text)] : parts.map(whole);
}

function make(node) {
  if (!Array.isArray(node)) return document.createTextNode(String(node));
  const [tag, attributes, ...children] = node;
  if (!TAGS.has(tag)) return document.createTextNode("");
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
    if (name === "href" && LINK.test(value)) {
      made.href = value;
      if (value.startsWith("https:")) { made.target = "_blank"; made.rel = "noopener noreferrer"; }
    }
    if (["share", "from", "to"].includes(name)) { // 0 to 1, as places for the style sheet
      made.style.setProperty(`--${name}`, `${Math.max(0, Math.min(1, Number(value) || 0)) * 100}%`);
    }
  }
  const prose = (child) => tag === "p" && typeof child === "string";
  made.append(...children.flatMap((child) => (prose(child) ? words(child) : [make(child)])));
  return made;
}

function draw() {
  // A fold that the visitor opened stays open when the words around it change.
  const open = [...root.querySelectorAll("details")].map((fold) => fold.open);
  root.replaceChildren(...(Array.isArray(props.value) ? props.value : []).map(make));
  root.querySelectorAll("details").forEach((fold, i) => { if (open[i]) fold.open = true; });
}

// Words that belong inside another component (the sentence, under the player's legend) move there once it stands.
function settle(tries) {
  const place = document.querySelector(props.before);
  if (place) place.before(root);
  else if (tries) setTimeout(() => settle(tries - 1), 50);
}

watch("value", draw);
draw();
if (props.before) settle(100);
