// The page of a league: ratings with intervals, the table, who beats whom.

const league = JSON.parse(document.getElementById("data").textContent);
const percent = (value) => Math.round(100 * value);
const interval = (rate) => `[${percent(rate.low)}, ${percent(rate.high)}]`;

/** Makes an element with attributes and children. */
function element(name, attributes = {}, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  found.append(...children);
  return found;
}

/** Makes an element of a drawing. */
function shape(name, attributes, text = "") {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  found.textContent = text;
  return found;
}

function heading() {
  document.title = `${league.name}: league`;
  document.getElementById("title").textContent = league.name;
  const anchor = league.anchor ?? "the mean of all";
  const won = league.won.map((share) => `${percent(share)} %`);
  const first = !league.race ? `Attackers won ${won[0]}.`
    : won.length === 2 ? `Whoever led the grid won ${won[0]}, a draw being half a win.`
    : `The grid's places won ${won.join(", ")}, the first of them first.`;
  document.getElementById("subtitle").textContent =
    `${league.games} games on ${league.starts} starts; ${anchor} is rated 1000. ${first}`;
}

/** Draws each entry's rating as a dot on its interval, the best on top. */
function drawRatings() {
  const row = 26, left = 190, width = 900, right = 60;
  const bounds = league.entries.flatMap((entry) => [entry.rating.low, entry.rating.high]);
  const step = [50, 100, 200, 500, 1000, 5000].find((s) => (Math.max(...bounds) - Math.min(...bounds)) / s < 9) ?? 10000;
  const low = Math.floor(Math.min(...bounds) / step) * step, high = Math.ceil((Math.max(...bounds) + 1) / step) * step;
  const x = (rating) => left + ((rating - low) / (high - low)) * (width - left - right);
  const height = league.entries.length * row + 24;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Ratings and their intervals" });
  for (let tick = low; tick <= high; tick += step) {
    svg.append(shape("line", { class: "rule", x1: x(tick), x2: x(tick), y1: 0, y2: height - 20 }));
    svg.append(shape("text", { class: "tick", x: x(tick), y: height - 4 }, tick));
  }
  league.entries.forEach((entry, index) => {
    const y = index * row + row / 2, { value, low: from, high: to } = entry.rating;
    svg.append(shape("text", { class: "name", x: left - 14, y: y + 4 }, entry.name));
    svg.append(shape("line", { class: "interval", x1: x(from), x2: x(to), y1: y, y2: y }));
    svg.append(shape("circle", { class: entry.name === league.anchor ? "anchor" : "", cx: x(value), cy: y, r: 4.5 }));
    svg.append(shape("text", { x: x(to) + 10, y: y + 4 }, Math.round(value)));
  });
  document.getElementById("ratings").append(svg);
}

function fillTable() {
  const rates = league.race ? ["win", "draw", "finish", "contact", "hit"] : ["win", "crash", "hit"];
  const heads = ["", "rating", ...rates, ...(league.grid > 2 ? ["place"] : []), ...(league.race ? ["overtakes a game", "Nash share", "Nash score"] : [])];
  const rows = league.entries.map((entry) => {
    const cell = (value, bounds) => element("td", {}, value, element("small", {}, bounds));
    const { value, low, high } = entry.rating;
    const cells = [cell(String(Math.round(value)), `[${Math.round(low)}, ${Math.round(high)}]`)];
    for (const rate of rates) cells.push(cell(String(percent(entry.rates[rate].value)), interval(entry.rates[rate])));
    if (league.grid > 2) cells.push(element("td", {}, entry.place.toFixed(2)));
    if (entry.nash) {
      for (const number of [entry.overtakes, entry.nash.share, entry.nash.score])
        cells.push(element("td", {}, (Math.abs(number) < 0.005 ? 0 : number).toFixed(2)));
    }
    return element("tr", {}, element("th", { scope: "row" }, entry.name), ...cells);
  });
  const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
  document.getElementById("table").append(element("thead", {}, head), element("tbody", {}, ...rows));
}

const WORDS = { typical: "typical", closest: "closest", surprising: "surprise" };

/** Makes links to the replays of two entries' games. */
function replays(one, other) {
  const own = league.highlights.filter(({ entries }) => entries.includes(one) && entries.includes(other));
  return own.filter(({ file }) => file).map(({ kind, text, file }) => {
    const href = file.split("/").map(encodeURIComponent).join("/");
    return element("a", { href, class: "replay", title: `${kind}: ${text}` }, WORDS[kind]);
  });
}

/** Fills the matrix: a cell is the bluer the more the row wins, and the more orange the less. */
function fillMatrix() {
  const all = league.entries.map((entry, index) => ({ ...entry, index }));
  const rows = all.filter((entry) => entry.role !== "defender");
  const columns = all.filter((entry) => entry.role !== "attacker");
  const { value, low, high } = league.payoff;
  const lines = rows.map((row) => {
    const cells = columns.map((column) => {
      const [i, j] = [row.index, column.index];
      if (value[i][j] === null) return element("td");
      const cell = element("td", {}, String(percent(value[i][j])));
      cell.title = `${row.name} against ${column.name}: ${percent(value[i][j])} [${percent(low[i][j])}, ${percent(high[i][j])}] %`;
      const lead = 2 * value[i][j] - 1, colour = lead > 0 ? "--car-0" : "--car-4";
      cell.style.background = `color-mix(in srgb, var(${colour}) ${Math.round(60 * Math.abs(lead))}%, var(--panel))`;
      if (low[i][j] > 0.5 || high[i][j] < 0.5) cell.className = "certain";
      cell.append(...replays(row.name, column.name));
      return cell;
    });
    return element("tr", {}, element("th", { scope: "row" }, row.name), ...cells);
  });
  const heads = columns.map((column) => element("th", { scope: "col", title: column.name }, column.name));
  const head = element("tr", {}, element("th"), ...heads);
  document.getElementById("matrix").append(element("thead", {}, head), element("tbody", {}, ...lines));
}

/** Fills a list, and shows its section if there is anything in it. */
function list(id, lines) {
  document.getElementById(id).append(...lines.map((line) => element("li", {}, line)));
  document.getElementById(`${id}-section`).hidden = !lines.length;
}

const theme = new Theme();
document.getElementById("theme").addEventListener("click", () => theme.toggle());
heading();
drawRatings();
fillTable();
fillMatrix();
document.getElementById("replays-note").hidden = !league.highlights.some(({ file }) => file);
list("cycles", league.cycles.map((cycle) => {
  const doubt = cycle.sure ? "" : ", within the intervals of chance";
  return `${[...cycle.entries, cycle.entries[0]].join(" beats ")} (${percent(cycle.least)} % at least${doubt})`;
}));
list("left-out", Object.entries(league.left_out).map(([name, why]) => `${name}: ${why}`));
document.documentElement.dataset.ready = "1";
