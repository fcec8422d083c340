// Full screen for a projector: the pictures, their player and the sentence alone. By button, or by F while the pointer
// or the focus is in the player. Where the browser refuses (some frames, iPhones), the player covers the page instead.

function fullScreen(root, moved) {
  const button = el("button", { type: "button", class: "ts-round ts-whole", onclick: () => toggle() });
  const icon = svg("svg", { width: 14, height: 14, viewBox: "0 0 16 16", "aria-hidden": "true" });
  icon.append(svg("path", { d: "M1.5 5.5v-4h4M10.5 1.5h4v4M14.5 10.5v4h-4M5.5 14.5h-4v-4", fill: "none",
    stroke: "currentColor", "stroke-width": 1.8 }));
  button.append(icon);
  const shows = () => root.classList.contains("ts-full");

  function mark(whole) {
    root.classList.toggle("ts-full", whole);
    const words = whole ? "Leave full screen" : "Full screen";
    button.setAttribute("aria-label", words);
    button.title = `${words} (F)`;
    button.setAttribute("aria-pressed", String(whole));
    moved();
  }

  function toggle() {
    const whole = !shows();
    mark(whole);
    if (whole) root.requestFullscreen?.().catch(() => {});
    else if (document.fullscreenElement === root) document.exitFullscreen();
  }

  root.addEventListener("fullscreenchange", () => { if (document.fullscreenElement !== root && shows()) mark(false); });
  document.addEventListener("keydown", (event) => {
    if (!root.isConnected || event.altKey || event.ctrlKey || event.metaKey) return;
    if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "range") return;
    const near = root.contains(document.activeElement) || root.matches(":hover");
    if (event.key.toLowerCase() === "f" && (near || shows())) { event.preventDefault(); toggle(); }
    if (event.key === "Escape" && shows()) toggle();
  });
  mark(false);
  return button;
}
