// The explorer: RECORDS (from records.js) holds, for each model and task, test texts and sizes; for each seed
// the right answers of every node by its path, and the whole path of every strategy.
"use strict";

const COLOURS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#8c6d00"];
const SHOWN = ["random-forest", "random-forest-position", "angular-distance", "greedy-oracle", "middle-first"];
const at = (id) => document.getElementById(id);

/** The 95% interval of a share (Wilson 1927). */
function wilson(right, total) {
  const z = 1.959963984540054, share = right / total, square = (z * z) / total;
  const middle = (share + square / 2) / (1 + square);
  const half = (z / (1 + square)) * Math.sqrt((share * (1 - share)) / total + square / (4 * total));
  return [middle - half, middle + half];
}

const prefix = (path, steps) => path.split("-").slice(0, steps).join("-");

/** What stands in one row: a strategy's model after so many removals. */
function rowOf(model, task, seed, strategy, removed) {
  const about = RECORDS.models[model], data = about.tasks[task], tree = data.seeds[seed];
  const path = prefix(tree.paths[strategy], removed), left = about.layers - removed;
  const right = tree.right[path];
  const gone = path === "" ? [] : path.split("-").map(Number);
  const [low, high] = wilson(right, data.test);
  return { strategy, gone, accuracy: right / data.test, low, high, parameters: data.parameters[left], ms: about.ms[left] };
}

function fill(select, values) {
  const before = select.value;
  select.replaceChildren(...values.map((value) => new Option(value, value)));
  if (values.includes(before)) select.value = before;
}

function chosen() {
  return [...at("strategies").querySelectorAll("input:checked")].map((box) => box.value);
}

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Move labels apart that would stand on one another, above an end; they keep their order. */
function spread(places, gap, end) {
  const order = [...places.keys()].sort((a, b) => places[a] - places[b]);
  const moved = [...places];
  order.forEach((one, rank) => {
    if (rank > 0) moved[one] = Math.max(moved[one], moved[order[rank - 1]] + gap);
  });
  const beyond = Math.max(0, Math.max(...moved) - end);
  return moved.map((place) => place - beyond);
}

/** Accuracy over the layers removed, a line per chosen strategy with its name at its end. */
function drawCurve(model, task, seed, names, removed) {
  const depth = RECORDS.models[model].layers;
  const wide = 600, high = Math.max(220, 60 + 14 * names.length), pad = 40, names_wide = 190;
  const lines = names.map((name) => [...Array(depth).keys()].map((n) => rowOf(model, task, seed, name, n).accuracy));
  const all = lines.flat(), top = Math.max(...all, 0.01), bottom = Math.min(...all, top - 0.01);
  const x = (n) => pad + ((wide - pad - names_wide) * n) / (depth - 1);
  const y = (share) => high - pad + ((share - bottom) / (top - bottom)) * (2 * pad - high - 10);
  const svg = element("svg", { viewBox: `0 0 ${wide} ${high}` });
  for (let n = 0; n < depth; n++) svg.append(element("text", { x: x(n) - 3, y: high - 20 }, n));
  svg.append(element("text", { x: pad, y: high - 5 }, "layers removed; point at a line or a step"));
  for (const share of [bottom, top]) svg.append(element("text", { x: 2, y: y(share) + 4 }, (100 * share).toFixed(1)));
  svg.append(element("line", { class: "axis", x1: x(removed), x2: x(removed), y1: y(top), y2: y(bottom) }));
  const ends = spread(lines.map((line) => y(line[depth - 1])), 13, high - 12);
  lines.forEach((line, i) => {
    const points = line.map((share, n) => `${x(n)},${y(share)}`).join(" ");
    const colour = COLOURS[i % COLOURS.length];
    const group = element("g", { class: "strategy", "data-strategy": names[i] });
    group.append(element("polyline", { points, fill: "none", stroke: "transparent", "stroke-width": 12 }));
    group.append(element("polyline", { class: "line", points, fill: "none", stroke: colour, "stroke-width": 1.5 }));
    const title = RECORDS.strategies[names[i]];
    const label = element("text", { class: "name", x: x(depth - 1) + 8, y: ends[i] + 4 }, title);
    label.style.fill = colour;
    group.append(label, element("title", {}, `${title}: ${(100 * line[removed]).toFixed(1)}% with ${removed} removed`));
    svg.append(group);
  });
  // Pointing at a step chooses it; a line that is pointed at comes to the front.
  svg.addEventListener("pointermove", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const step = Math.round(((place.x - pad) * (depth - 1)) / (wide - pad - names_wide));
    if (step >= 0 && step < depth && step !== removed) {
      at("removed").value = step;
      draw();
    }
  });
  at("curve").replaceChildren(svg);
}

function cell(row, ...content) {
  const made = row.insertCell();
  made.append(...content);
  return made;
}

function draw() {
  const [model, task, seed, removed] = ["model", "task", "seed", "removed"].map((id) => at(id).value);
  const steps = Number(removed), names = chosen(), body = at("rows").tBodies[0];
  at("step").textContent = removed;
  body.replaceChildren();
  names.forEach((name, i) => {
    const found = rowOf(model, task, seed, name, steps), row = body.insertRow();
    row.dataset.strategy = name;
    cell(row, RECORDS.strategies[name]).style.color = COLOURS[i % COLOURS.length];
    const layers = [...Array(RECORDS.models[model].layers).keys()].map((layer) => {
      const box = document.createElement("span");
      box.className = found.gone.includes(layer) ? "layer gone" : "layer";
      box.textContent = layer;
      box.title = found.gone.includes(layer) ? `removed at step ${found.gone.indexOf(layer) + 1}` : "kept";
      return box;
    });
    cell(row, ...layers);
    const [share, low, high] = [found.accuracy, found.low, found.high].map((n) => (100 * n).toFixed(1));
    cell(row, `${share} [${low}, ${high}]`);
    cell(row, (found.parameters / 1e6).toFixed(1));
    cell(row, found.ms.toFixed(3));
  });
  drawCurve(model, task, seed, names, steps);
}

function choose() {
  const about = RECORDS.models[at("model").value];
  fill(at("task"), Object.keys(about.tasks));
  const seeds = about.tasks[at("task").value].seeds;
  fill(at("seed"), Object.keys(seeds));
  at("removed").max = about.layers - 1;
  const present = Object.keys(seeds[at("seed").value].paths), before = chosen();
  const wanted = before.length ? before : SHOWN;
  at("strategies").replaceChildren(
    ...present.map((name) => {
      const label = document.createElement("label"), box = document.createElement("input");
      Object.assign(box, { type: "checkbox", value: name, checked: wanted.includes(name) });
      label.append(box, ` ${RECORDS.strategies[name]}`);
      return label;
    }),
  );
  draw();
}

fill(at("model"), Object.keys(RECORDS.models));
at("explorer").addEventListener("input", (event) => (event.target.tagName === "SELECT" ? choose() : draw()));
choose();
