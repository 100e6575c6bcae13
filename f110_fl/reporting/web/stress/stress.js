// The page of a stress evaluation: heat maps, each axis alone, and where the policy breaks.

const stress = JSON.parse(document.getElementById("data").textContent);
const percent = (value) => Math.round(100 * value);
const known = Object.fromEntries(stress.sweeps.flatMap((sweep) => sweep.axes).map((axis) => [axis.name, axis]));
const written = (name, value) => `${value}${known[name]?.unit ? ` ${known[name].unit}` : ""}`;
const place = (settings) => Object.entries(settings).map(([name, value]) => `${name} ${written(name, value)}`).join(", ");

/** What a cell can show: its value from 0 to 1 for the colour, its text, and its words. */
const MEASURES = {
  success: { title: stress.success, of: (entry) => rate(entry, stress.success) },
  crash: { title: "crash", of: (entry) => rate(entry, "crash") },
  lap: { title: "mean lap, s", of: lap },
};

function rate(entry, outcome) {
  const { rate: value, low, high, count } = entry.outcomes[outcome] ?? { rate: 0, low: 0, high: 0, count: 0 };
  return {
    value, low, high, text: String(percent(value)),
    words: `${outcome} ${count} of ${entry.episodes}, ${percent(value)} [${percent(low)}, ${percent(high)}] %`,
  };
}

function lap(entry) {
  const found = entry.lap_time;
  if (!found) return { value: null, text: "", words: "no lap" };
  return { value: found.mean, text: found.mean.toFixed(1), words: `lap ${found.mean.toFixed(2)} ± ${found.sd.toFixed(2)} s, ${entry.laps} laps` };
}

function element(name, attributes = {}, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  found.append(...children);
  return found;
}

function shape(name, attributes, text = "") {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  found.textContent = text;
  return found;
}

/** All combinations of the values of some axes, the last varying fastest. */
const combinations = (axes) => axes.reduce((found, axis) => found.flatMap((own) => axis.values.map((v) => [...own, v])), [[]]);

function heading() {
  document.title = `${stress.name}: stress`;
  document.getElementById("title").textContent = stress.name;
  const policy = stress.checkpoint ? `${stress.checkpoint} in ${stress.scenario}` : stress.scenario;
  const plain = stress.cars.map((car) => {
    const { words } = rate(stress.nominal.cars[car], stress.success);
    return stress.cars.length > 1 ? `${car}: ${words}` : words;
  });
  document.getElementById("subtitle").textContent =
    `${policy}, seed ${stress.seed}: ${stress.episodes} episodes a cell, on the same seeds in all. Undisturbed: ${plain.join("; ")}.`;
}

/** Colours a cell: from 0, orange, to 1, blue; lap times from the fastest of a map, blue, to the slowest. */
function colour(cell, part, measure, range) {
  if (part === null) return;
  let share = part;
  if (measure === "crash") share = 1 - part;
  if (measure === "lap") share = range[1] > range[0] ? (range[1] - part) / (range[1] - range[0]) : 1;
  const lead = 2 * share - 1;
  cell.style.background = `color-mix(in srgb, var(${lead > 0 ? "--car-0" : "--car-4"}) ${Math.round(65 * Math.abs(lead))}%, var(--panel))`;
}

/** Draws one map; a thick line is where success crosses the threshold. */
function drawMap(cells, rows, columns, title, car, measure) {
  const entries = cells.map((cell) => MEASURES[measure].of(cell.cars[car]));
  const laps = entries.map((entry) => entry.value).filter((value) => value !== null);
  const range = [Math.min(...laps), Math.max(...laps)];
  const held = cells.map((cell) => rate(cell.cars[car], stress.success).value >= stress.threshold);
  const width = columns.values.length;
  const lines = rows.values.map((value, i) => element("tr", {}, element("th", { scope: "row" }, written(rows.name, value)),
    ...columns.values.map((_, j) => {
      const at = i * width + j, cell = element("td", {}, entries[at].text);
      cell.title = `${place(cells[at].settings)}: ${entries[at].words}`;
      colour(cell, entries[at].value, measure, range);
      if (j > 0 && held[at] !== held[at - 1]) cell.classList.add("edge-left");
      if (i > 0 && held[at] !== held[at - width]) cell.classList.add("edge-top");
      return cell;
    })));
  const corner = element("th", { class: "corner" }, `${rows.name} ↓  ${columns.name} →`);
  const head = element("tr", {}, corner, ...columns.values.map((v) => element("th", { scope: "col" }, written(columns.name, v))));
  const table = element("table", { class: "map" }, element("thead", {}, head), element("tbody", {}, ...lines));
  return element("div", { class: "card scroll" }, element("h3", {}, title), table);
}

function drawMaps(car, measure) {
  const maps = [];
  for (const { axes, cells } of stress.sweeps.filter((sweep) => sweep.axes.length > 1)) {
    const [rows, columns] = axes.slice(-2), others = axes.slice(0, -2);
    const size = rows.values.length * columns.values.length;
    combinations(others).forEach((fixed, n) => {
      const where = fixed.map((value, i) => `${others[i].name} ${written(others[i].name, value)}: `).join("");
      maps.push(drawMap(cells.slice(n * size, (n + 1) * size), rows, columns, `${where}${rows.about}, over ${columns.about}`, car, measure));
    });
  }
  document.getElementById("maps").replaceChildren(...maps);
  document.getElementById("maps-section").hidden = !maps.length;
  const title = MEASURES[measure].title;
  document.getElementById("maps-note").textContent =
    `${title}${measure === "lap" ? "" : ", %"}; the thick line is where ${stress.success} falls below ${percent(stress.threshold)} %. Point at a cell for its interval.`;
}

/** Draws the rates along one axis. */
function drawAxis(axis, cells, car, measure) {
  const width = 460, height = 220, left = 38, bottom = 34, top = 8;
  const x = (i) => left + ((i + 0.5) * (width - left)) / axis.values.length;
  const entries = cells.map((cell) => MEASURES[measure].of(cell.cars[car]));
  const numbers = entries.map((entry) => entry.value).filter((value) => value !== null);
  const most = measure === "lap" ? Math.max(1, ...numbers) * 1.1 : 1;
  const y = (value) => top + (1 - value / most) * (height - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": axis.about });
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const value = part * most;
    svg.append(shape("line", { class: "rule", x1: left, x2: width, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { class: "tick", x: left - 6, y: y(value) + 4 }, measure === "lap" ? value.toFixed(1) : percent(value)));
  }
  if (measure === "success") {
    const at = y(stress.threshold);
    svg.append(shape("line", { class: "threshold", x1: left, x2: width, y1: at, y2: at }));
  }
  const points = entries.map((entry, i) => (entry.value === null ? null : `${x(i)},${y(entry.value)}`)).filter(Boolean);
  svg.append(shape("polyline", { class: "curve", points: points.join(" ") }));
  entries.forEach((entry, i) => {
    svg.append(shape("text", { class: "abscissa", x: x(i), y: height - bottom + 20 }, axis.values[i]));
    if (entry.value === null) return;
    if (measure !== "lap") svg.append(shape("line", { class: "interval", x1: x(i), x2: x(i), y1: y(entry.low), y2: y(entry.high) }));
    const below = measure === "success" && entry.value < stress.threshold;
    const dot = shape("circle", { class: below ? "below" : "", cx: x(i), cy: y(entry.value), r: 4.5 });
    dot.append(shape("title", {}, `${written(axis.name, axis.values[i])}: ${entry.words}`));
    svg.append(dot);
  });
  const title = axis.name === axis.about ? axis.name : `${axis.name}: ${axis.about}`;
  return element("div", { class: "card" }, element("h3", {}, axis.unit ? `${title}, ${axis.unit}` : title), svg);
}

function drawAxes(car, measure) {
  const alone = stress.sweeps.filter((sweep) => sweep.axes.length === 1);
  document.getElementById("alone").replaceChildren(...alone.map(({ axes, cells }) => drawAxis(axes[0], cells, car, measure)));
  document.getElementById("alone-section").hidden = !alone.length;
}

function fillBreaks(car) {
  const heads = ["along", "while", "holds up to", "breaks at", stress.success, "beyond chance from"];
  const rows = stress.sweeps.flatMap((sweep) => sweep.breaks).filter((entry) => entry.car === car).map((entry) => {
    const at = (value, none) => (value === null ? none : written(entry.axis, value));
    const shown = entry.rate === null ? "" : `${percent(entry.rate)} [${entry.interval.map(percent).join(", ")}] %`;
    const cells = [place(entry.at), at(entry.holds, "none"), at(entry.breaks, "none"), shown, at(entry.certain, "none")];
    return element("tr", {}, element("th", { scope: "row" }, entry.axis), ...cells.map((text) => element("td", {}, text)));
  });
  const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
  document.getElementById("breaks").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

function draw() {
  const car = document.getElementById("car").value, measure = document.getElementById("measure").value;
  drawMaps(car, measure);
  drawAxes(car, measure);
  fillBreaks(car);
}

/** Fills a list to choose from; with one entry it is left out. */
function choice(id, entries) {
  const select = document.getElementById(id);
  select.append(...entries.map(([value, text]) => element("option", { value }, text)));
  select.closest("label").hidden = entries.length < 2;
  select.addEventListener("change", draw);
}

const theme = new Theme();
document.getElementById("theme").addEventListener("click", () => theme.toggle());
const everywhere = [stress.nominal, ...stress.sweeps.flatMap((sweep) => sweep.cells)];
const laps = everywhere.some((cell) => stress.cars.some((car) => cell.cars[car].lap_time));
heading();
choice("car", stress.cars.map((car) => [car, car]));
choice("measure", Object.entries(MEASURES).filter(([name]) => name !== "lap" || laps).map(([name, { title }]) => [name, title]));
draw();
document.documentElement.dataset.ready = "1";
