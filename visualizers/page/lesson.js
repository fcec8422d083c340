// A guided walk: a question, the visitor's guess, then the app itself shows what happens.
// value: {tab, title, steps: [{link, ask, options, right, say}]}
const root = element.querySelector(".lesson");
const { tab, title, steps } = props.value;
const card = document.createElement("section");
card.className = "walk";
card.setAttribute("aria-label", `Guided walk: ${title}`);
let at = -1, chosen = null; // which step is open (-1: none), and what was guessed there

function make(tag, text, attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value); else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const button = (text, onclick, kind = "") => make("button", text, { type: "button", class: kind, onclick });

function open(step) {
  [at, chosen] = [step, null];
  draw();
  card.querySelector("h3")?.focus();
}

// The guess is made before the picture is shown; the link then opens the view like any copied link.
function guess(index) {
  chosen = index;
  const link = `tab=${tab}&${steps[at].link}&walk=${at + 1}`;
  props.value = { ...props.value, link, method: new URLSearchParams(link).get("method") };
  draw();
  card.querySelector(".next")?.focus();
  trigger("go", {});
}

function question(step) {
  const guesses = step.options.map((text, index) => button(text, () => guess(index)));
  return [make("p", step.ask, { class: "ask" }), make("div", "", { class: "guesses" }, ...guesses)];
}

function answer(step) {
  const quoted = (index) => `“${step.options[index]}”`;
  const right = chosen === step.right, last = at === steps.length - 1;
  return [make("p", step.ask, { class: "ask" }),
    make("p", "", { role: "status" },
      make("b", right ? `Right: ${quoted(chosen)}. `
        : `You expected ${quoted(chosen)}; it is ${quoted(step.right)}. `), step.say),
    make("div", "", { class: "guesses" },
      button(last ? "Close the walk" : "Next", () => open(last ? -1 : at + 1), "next"))];
}

function draw() {
  const step = steps[at];
  root.replaceChildren(...(step ? [] : [button("Guided walk", () => open(0), "begin")]));
  card.replaceChildren();
  card.hidden = !step;
  if (!step) return;
  const head = make("div", "", { class: "walk-head" }, make("h3", title, { tabindex: "-1" }),
    make("span", `${at + 1} of ${steps.length}`), button("Close", () => open(-1), "close"));
  card.append(head, ...(chosen === null ? question(step) : answer(step)));
}

// The card stands above the picture, in the other column.
function settle(tries) {
  const place = document.querySelector(`#${tab}-player`);
  if (place) place.before(card);
  else if (tries) setTimeout(() => settle(tries - 1), 50);
}

const asked = new URLSearchParams(location.search);
if (asked.has("walk") && asked.get("tab") === tab) at = 0;
draw();
settle(100);
