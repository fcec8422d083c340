// When the server goes away during a run, Gradio waits for it and loads the page again. This brings the visitor back
// to the same tab and says what happened.
const box = element.querySelector(".lost"), KEY = "tokenscope-lost";
const WORDS = "The server was restarted, so this page was loaded again. A run that was going on is lost, " +
  "and your own text or photo was not kept; please press Run again.";
const GRADIOS = "Connection to the server was lost"; // its words, by which its message is known

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Storage is refused in some embedded pages; then only the sentence is missing.
function stored(act) { try { return act(sessionStorage); } catch { return null; } }

// A page that the visitor leaves or loads again breaks its own connections: that is no restart. Gradio hears of the
// leaving first and says that the connection is lost, so what it says is noted a moment later.
let leaving = false;
window.addEventListener("beforeunload", () => { leaving = true; });

function remember() {
  if (leaving) return;
  stored((storage) => storage.setItem(KEY, "1"));
  const open = document.querySelector("#tabs [role=tab][aria-selected=true]");
  const tab = open?.textContent.trim().toLowerCase().replace("all papers", "papers");
  const query = new URLSearchParams(location.search);
  if (tab && query.get("tab") !== tab) history.replaceState(null, "", `?tab=${encodeURIComponent(tab)}`);
}

if (stored((storage) => storage.getItem(KEY))) {
  stored((storage) => storage.removeItem(KEY));
  const close = make("button", "Close", { type: "button" });
  close.addEventListener("click", () => box.replaceChildren());
  box.replaceChildren(make("p", WORDS, { role: "alert" }), close);
}

new MutationObserver((changes) => {
  const said = changes.flatMap((change) => [...change.addedNodes]);
  if (said.some((node) => node.textContent?.includes(GRADIOS))) setTimeout(remember, 50);
}).observe(document.body, { childList: true, subtree: true });
