// The table of many photos: built once for a set of photos, then only its verdicts change. Runs inside a gr.HTML.
const HEADS = [["Photo", 0], ["Verdict", 1], ["Closest class", 2], ["Score", 3], ["p-value", 4]];
const VERDICTS = { ID: ["known", "✓"], OOD: ["unknown", "✕"], error: ["not readable", "!"] };
const FILTERS = [["all", "All"], ["ID", "Known"], ["OOD", "Unknown"], ["error", "Not readable"]];
const body = element.querySelector("tbody"), heads = element.querySelector("thead tr");
const filters = element.querySelector("fieldset");
let lines = [], order = { column: null, down: false }, wanted = "all";

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function photoRow({ name, thumb }, place) {
  const picture = make("img", { alt: "", className: "lsn-thumb" });
  if (thumb) picture.src = thumb;
  else picture.hidden = true;
  const button = make("button", { type: "button", textContent: name, tabIndex: -1 });
  const photo = make("th", { scope: "row" }, make("div", {}, picture, button));
  const row = make("tr", {}, photo, ...HEADS.slice(1).map(() => make("td")));
  row.addEventListener("click", () => pick(place));
  return { row, button, name, place };
}

function show(line, [verdict, score, p, label]) {
  const kind = verdict ?? "error", [word, mark] = VERDICTS[kind];
  const values = verdict ? [label, score.toFixed(4), p === null ? "–" : p.toFixed(3)] : [score, "", ""];
  Object.assign(line, { kind, keys: [line.name.toLowerCase(), word, verdict && label.toLowerCase(), verdict && score, p] });
  line.row.dataset.kind = kind;
  line.button.setAttribute("aria-disabled", String(!verdict));
  const cells = [...line.row.cells];
  cells[1].replaceChildren(make("span", { className: "lsn-mark", textContent: mark, ariaHidden: "true" }), ` ${word}`);
  values.forEach((value, i) => { cells[i + 2].textContent = value; });
  cells[2].colSpan = verdict ? 1 : 3; // an error is a sentence
  cells[3].hidden = cells[4].hidden = !verdict;
}

function compare(a, b) {
  if (order.column === null) return a.place - b.place;
  const [x, y] = [a.keys[order.column], b.keys[order.column]];
  if (x == null || y == null) return (x == null) - (y == null) || a.place - b.place; // unknown ones stay last
  const found = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
  return (order.down ? -found : found) || a.place - b.place;
}

function arrange() {
  const focused = document.activeElement;
  lines.sort(compare);
  for (const line of lines) line.row.hidden = wanted !== "all" && line.kind !== wanted;
  body.replaceChildren(...lines.map((line) => line.row));
  const seen = visible();
  if (!seen.some((line) => line.button.tabIndex === 0) && seen.length) reach(seen[0]);
  if (body.contains(focused)) focused.focus();
  [...heads.cells].forEach((cell, i) => {
    cell.setAttribute("aria-sort", order.column !== i ? "none" : order.down ? "descending" : "ascending");
  });
  for (const [kind] of FILTERS) {
    const count = kind === "all" ? lines.length : lines.filter((line) => line.kind === kind).length;
    filters.querySelector(`[data-count=${kind}]`).textContent = `(${count})`;
  }
  element.querySelector(".lsn-none").hidden = seen.length > 0;
}

const visible = () => lines.filter((line) => !line.row.hidden);

// One row can be reached by Tab, the arrows move on from there.
function reach(line) {
  for (const other of lines) other.button.tabIndex = other === line ? 0 : -1;
}

function pick(place) {
  const line = lines.find((one) => one.place === place);
  if (line.kind === "error") return;
  for (const other of lines) other.row.toggleAttribute("aria-current", other === line);
  reach(line);
  trigger("select", { index: place, value: line.name });
}

body.addEventListener("keydown", (event) => {
  const seen = visible(), here = seen.findIndex((line) => line.button === event.target);
  const next = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: seen.length - 1 }[event.key];
  if (here < 0 || next === undefined || !seen[next]) return;
  event.preventDefault();
  reach(seen[next]);
  seen[next].button.focus();
});

HEADS.forEach(([title, column]) => {
  const button = make("button", { type: "button", textContent: title });
  button.addEventListener("click", () => {
    order = { column, down: order.column === column && !order.down };
    arrange();
  });
  heads.append(make("th", { scope: "col" }, button));
});
FILTERS.forEach(([kind, title]) => {
  const choice = make("input", { type: "radio", name: "lsn-batch-filter", value: kind, checked: kind === wanted });
  choice.addEventListener("change", () => { wanted = kind; arrange(); });
  const count = make("span");
  count.dataset.count = kind;
  filters.append(make("label", {}, choice, ` ${title} `, count));
});

const pictures = make("input", { type: "checkbox" });
pictures.addEventListener("change", () => {
  element.querySelector(".lsn-batch-scroll").classList.toggle("lsn-pictures", pictures.checked);
});
filters.append(make("label", { className: "lsn-as-pictures" }, pictures, " Large pictures"));

function update() {
  const rows = props.value ?? [];
  if (rows.length !== lines.length) return; // the verdicts are on their way
  rows.forEach((row, place) => show(lines.find((line) => line.place === place), row));
  arrange();
}

function build() {
  lines = (props.photos ?? []).map(photoRow);
  body.replaceChildren();
  update();
}

watch("photos", build);
watch("value", update);
build();

// Gradio takes dropped files but not dropped folders: those are opened here, and their files handed on. It takes a
// file's name without its folders: here the name is the whole way, so that no two photos are called the same.
const called = (file, path) => new File([file], path, { type: file.type, lastModified: file.lastModified });

async function filesBelow(entry) {
  if (entry.isFile) {
    if (entry.name.startsWith(".")) return [];
    const file = await new Promise((done, fail) => entry.file(done, fail));
    return [called(file, entry.fullPath.replace(/^\//, ""))];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail)); // at most a hundred at a time
    if (!some.length) return found;
    for (const inner of some) found.push(...await filesBelow(inner));
  }
}

function handOn(input, files) {
  const basket = new DataTransfer();
  for (const file of files) basket.items.add(file);
  input.files = basket.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

async function openFolders(event) {
  const input = event.target.closest("#lsn-batch-files")?.querySelector("input[type=file]");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!input || !entries.some((entry) => entry.isDirectory)) return;
  event.preventDefault();
  event.stopPropagation();
  const found = [];
  for (const entry of entries) found.push(...await filesBelow(entry));
  handOn(input, found);
}

function nameByFolder(event) {
  const input = event.target, files = [...(input.files ?? [])];
  if (!files.some((file) => file.webkitRelativePath)) return; // those that were named here have none
  event.stopImmediatePropagation();
  handOn(input, files.map((file) => called(file, file.webkitRelativePath || file.name)));
}

// On the whole page, as the place for files may be drawn after this table; the folder's input is not within its button.
document.addEventListener("drop", openFolders, true);
document.addEventListener("change", nameByFolder, true);
