// Example cards as radio buttons. value: {items: [{id, title, text, picture}], selected: id, own: {...} or null}
const root = element.querySelector(".picker");

function card(item) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = item.picture ? "card photo" : "card";
  button.setAttribute("role", "radio");
  button.setAttribute("aria-checked", String(item.id === props.value.selected));
  button.setAttribute("aria-label", item.title);
  button.title = item.title;
  button.tabIndex = item.id === props.value.selected ? 0 : -1;
  if (item.picture && item.picture.startsWith("data:image/")) {
    const picture = document.createElement("img");
    picture.src = item.picture;
    picture.alt = "";
    button.append(picture);
  } else {
    const title = document.createElement("b");
    title.textContent = item.title;
    const text = document.createElement("span");
    text.textContent = item.text || "";
    button.append(title, text);
  }
  button.addEventListener("click", () => choose(item.id));
  return button;
}

function choose(id) {
  props.value = { ...props.value, selected: id };
  draw();
  root.querySelector("[aria-checked=true]")?.focus();
  trigger("pick", { id });
}

function draw() {
  const items = props.value?.items ?? [];
  root.replaceChildren(...items.map(card));
  if (items.length && !root.querySelector("[tabindex='0']")) root.firstChild.tabIndex = 0;
}

root.addEventListener("keydown", (event) => {
  const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const items = props.value?.items ?? [];
  if (!move || !items.length) return;
  event.preventDefault();
  const at = items.findIndex((item) => item.id === props.value.selected);
  choose(items[(at + move + items.length) % items.length].id);
});

watch("value", draw);
draw();
