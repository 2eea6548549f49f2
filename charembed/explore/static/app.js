"use strict";
// Everything that was typed or read from a file becomes text of an element, never HTML.

const byId = (id) => document.getElementById(id);

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

async function post(path, body) {
  byId("error").textContent = "";
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const isJson = response.headers.get("content-type") === "application/json";
    const answer = isJson ? await response.json() : { error: await response.text() };
    if (answer.error === undefined) return answer;
    byId("error").textContent = answer.error;
  } catch {
    byId("error").textContent = "charembed explore does not answer: is it still running?";
  }
  return null;
}

// ---- words and tags

let shown = null; // the text that is shown: offsets are numbers of code points
let latest = 0; // answers to earlier questions are dropped

async function read() {
  const question = ++latest;
  const answer = await post("api/read", { text: byId("text").value });
  if (answer === null || question !== latest) return;
  shown = answer;
  shown.characters = Array.from(answer.text);
  byId("neighbors").replaceChildren();
  showWords();
  showSurprise();
}

const slice = (start, end) => shown.characters.slice(start, end).join("");

function showWords() {
  const target = byId("words");
  target.replaceChildren();
  let position = 0;
  let word = 0;
  // The pieces between two bounds of entities, in order. Entities of several layers may overlap: the first one is shown.
  const entities = [];
  for (const entity of shown.entities) {
    if (!entities.length || entity[0] >= entities.at(-1)[1]) entities.push(entity);
  }
  const fill = (parent, end) => {
    while (word < shown.words.length && shown.words[word][0] < end) {
      const [start, stop] = shown.words[word];
      parent.append(slice(position, start), wordButton(word, slice(start, stop)));
      position = stop;
      word++;
    }
    parent.append(slice(position, end));
    position = Math.max(position, end);
  };
  for (const [start, end, label, score] of entities) {
    fill(target, start);
    const mark = element("span", "entity");
    fill(mark, end);
    const name = element("span", "label", label);
    name.title = `probability ${score}`;
    // The last word, what follows it and the label stay on one line.
    const last = element("span", "last");
    last.append(...[...mark.childNodes].slice(-2), name);
    mark.append(last);
    target.append(mark);
  }
  fill(target, shown.characters.length);
}

function wordButton(number, text) {
  const button = element("button", "word", text);
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  const tags = Object.values(shown.tags).map((layer) => layer[number]).filter(Boolean);
  if (tags.length) button.append(element("span", "tag", tags.join(" ")));
  button.addEventListener("click", () => showNeighbors(number, button));
  return button;
}

async function showNeighbors(number, button) {
  for (const other of byId("words").querySelectorAll(".word")) other.setAttribute("aria-pressed", other === button);
  const answer = await post("api/neighbors", { text: shown.text, word: number });
  byId("neighbors").replaceChildren();
  for (const one of answer ?? []) {
    const line = element("li", "", element("span", "number", one.similarity.toFixed(2)), ...excerpt(one));
    line.dir = "auto";
    byId("neighbors").append(line);
  }
}

const excerpt = (one) => [one.before, element("b", "", one.word), one.after];

// ---- surprise

function showSurprise() {
  const target = byId("surprise");
  target.replaceChildren();
  const unknown = new Set(shown.unknown);
  for (const [direction, bits] of Object.entries(shown.surprise)) {
    const mean = bits.reduce((sum, value) => sum + value, 0) / Math.max(1, bits.length);
    const heading = `${direction}, ${mean.toFixed(2)} bits per character`;
    target.append(element("p", "direction", heading));
    const cells = shown.characters.map((character, k) => {
      const cell = element("span", unknown.has(k) ? "unknown" : "", character);
      if (character === "\n") cell.className = "newline";
      cell.style.setProperty("--share", Math.min(1, bits[k] / 12).toFixed(3));
      const described = `${JSON.stringify(character)}: ${bits[k].toFixed(2)} bits ${direction}`;
      cell.dataset.note = described + (unknown.has(k) ? ", not in the vocabulary" : "");
      return cell;
    });
    const heat = element("div", "heat", ...cells);
    heat.dir = "auto";
    target.append(heat);
    choosable(heat, cells, `Surprise ${direction}`, (k) => (byId("character").textContent = cells[k].dataset.note));
  }
}

// ---- map

async function draw() {
  const words = byId("map-words").value.split(/\s+/).filter(Boolean);
  const answer = await post("api/map", { words });
  if (answer === null) return;
  const svg = new DOMParser().parseFromString(answer.svg, "image/svg+xml").documentElement;
  byId("map").replaceChildren(document.importNode(svg, true));
  byId("occurrence").textContent = "";
  const drawn = byId("map").firstChild;
  const points = [...drawn.querySelectorAll("[id^='map-points-'] use")];
  const show = (k) => {
    for (const point of points) point.classList.toggle("chosen", point === points[k]);
    byId("occurrence").replaceChildren(...excerpt(answer.points[k]));
  };
  choosable(drawn, points, `Map of ${words.join(", ")}: ${points.length} occurrences`, show);
}

// One stop of the Tab key for many things, of which the pointer or the arrow keys choose one.
function choosable(parent, items, label, choose) {
  let current = -1;
  const move = (k) => {
    current = Math.max(0, Math.min(items.length - 1, k));
    if (items.length) choose(current);
  };
  parent.setAttribute("tabindex", "0");
  parent.setAttribute("role", "application");
  parent.setAttribute("aria-label", label);
  const numbers = new Map(items.map((item, k) => [item, k]));
  const point = (event) => numbers.has(event.target) && move(numbers.get(event.target));
  parent.addEventListener("pointerover", point);
  parent.addEventListener("click", point);
  parent.addEventListener("focus", () => move(Math.max(0, current)));
  parent.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -items.length, End: items.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(current + steps[event.key]);
  });
}

// ---- start

function describe(status) {
  if (status.stage === "loading") return `loading the model ${status.model} …`;
  if (status.stage === "indexing") return `model ${status.model}; indexing the corpus: ${Math.floor(100 * status.share)} %`;
  const tagger = status.has_tagger ? "" : ", no tagger";
  if (status.occurrences) return `model ${status.model}${tagger}, ${status.occurrences.toLocaleString("en")} words indexed`;
  return `model ${status.model}${tagger}, no corpus${status.notice ? `: ${status.notice}` : ""}`;
}

async function follow() {
  let wasLoading = true;
  for (;;) {
    try {
      const status = await (await fetch("api/status")).json();
      byId("status").textContent = describe(status);
      if (wasLoading && status.stage !== "loading") {
        wasLoading = false;
        await read();
      }
      if (status.stage === "ready") {
        document.body.dataset.ready = "true";
        if (status.occurrences) await draw();
        // The first map is an example: the corpus need not have its word.
        byId("error").textContent = "";
        return;
      }
    } catch {
      byId("status").textContent = "charembed explore does not answer: is it still running?";
    }
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

byId("reader").addEventListener("submit", (event) => (event.preventDefault(), read()));
byId("mapper").addEventListener("submit", (event) => (event.preventDefault(), draw()));
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) read();
});
follow();
