// The page of a calibration: tables, and charts that show the same times.

const data = JSON.parse(byId("data").textContent);

/** Makes an element of a drawing. */
function shape(name, attributes) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
}

/** A number with about four digits that matter. */
function digits(value) {
  const size = Math.floor(Math.log10(Math.abs(value) || 1));
  return decimal(value, Math.min(Math.max(3 - size, 0), 5));
}

function heading() {
  document.title = `${data.log}: calibration`;
  write(byId("title"), data.log);
  const found = data.parameters.filter((row) => !row.missing).length;
  write(
    byId("subtitle"),
    `${decimal(data.seconds, 0)} s of driving, ${data.windows_used} windows of ${data.window_s} s; ` +
      `${found} of ${data.parameters.length} parameters identified.`,
  );
  const notes = [...data.notes, ...(data.left_as_given ? [data.left_as_given] : [])];
  byId("notes").hidden = !notes.length;
  byId("notes").append(...notes.map((note) => make("div", "", note)));
}

/** Draws an interval, and what was given before. */
function drawInterval(row) {
  const [width, middle] = [220, 9];
  const [low, high] = [Math.min(row.low, row.given), Math.max(row.high, row.given)];
  const x = (value) => 8 + ((value - low) / (high - low || 1)) * (width - 16);
  const svg = shape("svg", { viewBox: `0 0 ${width} 18`, role: "img", "aria-label": `${row.name}: interval` });
  svg.append(shape("line", { class: "rule", x1: 0, x2: width, y1: middle, y2: middle }));
  svg.append(shape("line", { class: "range", x1: x(row.low), x2: x(row.high), y1: middle, y2: middle }));
  svg.append(shape("circle", { class: "given", cx: x(row.given), cy: middle, r: 4 }));
  svg.append(shape("circle", { class: "best", cx: x(row.value), cy: middle, r: 4.5 }));
  return svg;
}

/** Fills a table from its heads and rows of elements, the first of each being its head. */
function fill(id, heads, rows) {
  const head = make("tr");
  for (const name of heads) head.append(Object.assign(make("th", "", name), { scope: "col" }));
  const [top, body] = [make("thead"), make("tbody")];
  top.append(head);
  for (const cells of rows) {
    const line = make("tr");
    line.append(...cells);
    body.append(line);
  }
  byId(id).append(top, body);
}

function rowHead(name, words = "") {
  const head = Object.assign(make("th", "", name), { scope: "row" });
  if (words) head.append(make("small", "", words));
  return head;
}

function fillParameters() {
  const rows = data.parameters.map((row) => {
    const cells = [rowHead(row.name, row.what), make("td", "", digits(row.given))];
    if (row.missing) {
      const left = make("td", "left", `left as given: ${row.missing}`);
      left.colSpan = 4;
      return [...cells, left];
    }
    const interval = make("td", "interval");
    interval.append(drawInterval(row));
    const bounds = `${digits(row.low)} to ${digits(row.high)}`;
    return [...cells, make("td", "", digits(row.value)), make("td", "", bounds), make("td", "", row.unit), interval];
  });
  fill("parameters", ["", "given", "fitted", "95 % interval", "", ""], rows);
}

function fillErrors() {
  write(
    byId("errors-note"),
    `Root mean squares over windows of ${data.window_s} s, with the settings given and with those fitted.`,
  );
  const rows = data.errors.map((row) => [
    rowHead(row.channel.replace("_", " ")),
    ...[row.before, row.after].map((value) => make("td", "", digits(value))),
    make("td", "", row.unit),
  ]);
  fill("errors", ["", "given", "fitted", ""], rows);
}

/** Draws all charts now and whenever what they show has changed. */
function drawCharts(theme) {
  const whole = [data.times[0], data.times.at(-1)];
  const shared = { range: whole, cursor: null };
  const plots = data.charts.map((chart) => new Plot(chart, data.windows, theme, shared));
  byId("charts").append(...plots.map((plot) => plot.root));
  const drawings = [...plots];
  if (data.course) {
    byId("course-section").hidden = false;
    legend(["measured", "predicted"], byId("course-legend"));
    drawings.push(new Course(byId("course"), data, theme, shared));
  }
  let asked = false;
  const draw = () => {
    asked = false;
    for (const drawing of drawings) drawing.draw();
  };
  const later = () => {
    if (!asked) requestAnimationFrame(draw);
    asked = true;
  };
  shared.set = (range) => {
    shared.range = range ?? whole;
    later();
  };
  shared.point = (time) => {
    shared.cursor = time;
    later();
  };
  theme.onChange(later);
  new ResizeObserver(later).observe(document.body);
  draw();
}

const theme = new Theme();
byId("theme").addEventListener("click", () => theme.toggle());
heading();
fillParameters();
fillErrors();
drawCharts(theme);
write(byId("settings"), data.settings);
document.documentElement.dataset.ready = "1";
