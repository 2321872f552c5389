// A row of example photos: one of them can be reached by Tab, the arrows move on from there. Runs inside a gr.HTML.
const buttons = [...element.querySelectorAll("button")];

function reach(index) {
  buttons.forEach((button, i) => { button.tabIndex = i === index ? 0 : -1; });
}

element.addEventListener("click", (event) => {
  const index = buttons.indexOf(event.target.closest("button"));
  if (index < 0) return;
  reach(index);
  trigger("select", { index, value: buttons[index].textContent.trim() });
});

element.addEventListener("keydown", (event) => {
  const here = buttons.indexOf(event.target);
  const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (here < 0 || next === undefined || !buttons[next]) return;
  event.preventDefault();
  reach(next);
  buttons[next].focus();
});
