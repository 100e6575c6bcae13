// Tables: words to the left, numbers to the right.

/**
 * Fills a table.
 * @param {HTMLTableElement} table
 * @param {{title: string, words?: boolean, long?: boolean, hint?: string}[]} columns `words`: not
 *   numbers; `long`: whole sentences
 * @param {(string | Node)[][]} rows
 * @param {string} caption for those who hear the page
 */
function fillTable(table, columns, rows, caption) {
  const heads = make("tr");
  for (const { title, words, hint } of columns) {
    const head = make("th", words ? "words" : "", title);
    head.scope = "col";
    if (hint) head.title = hint;
    heads.append(head);
  }
  const head = make("thead");
  head.append(heads);
  const body = make("tbody");
  body.append(...rows.map((cells) => tableRow(columns, cells)));
  table.replaceChildren(make("caption", "unseen", caption), head, body);
}

function tableRow(columns, cells) {
  const row = make("tr");
  cells.forEach((cell, k) => {
    const { words, long } = columns[k];
    const own = make(k ? "td" : "th", `${words ? "words" : ""} ${long ? "long" : ""}`.trim());
    if (!k) own.scope = "row";
    own.append(cell);
    row.append(own);
  });
  return row;
}

/** A number with its interval below. */
function withInterval(value, low, high, form) {
  const cell = make("span", "estimate");
  cell.append(make("span", "", shown(value, form)));
  const apart = interval(low, high, form);
  if (apart) cell.append(make("small", "", apart));
  return cell;
}

/** A share as a bar behind its number. */
function shareBar(value, colour = "accent") {
  const cell = make("span", "bar");
  const fillOf = make("i");
  fillOf.style.width = `${100 * Math.min(Math.max(value ?? 0, 0), 1)}%`;
  fillOf.style.background = `var(--${colour})`;
  const track = make("span", "bar-track");
  track.append(fillOf);
  cell.append(make("span", "", shown(value, "share")), track);
  return cell;
}

/** A name in its colour. */
function tagged(name, index) {
  const tag = make("span", "tagged");
  tag.append(swatch({ ...styleOf(index), weight: "thick" }), name);
  return tag;
}

/** A line without axes: how something went. */
function sparkline(values, colour = "text", domain = null) {
  const [width, height] = [120, 30];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "spark", "aria-hidden": "true" });
  const series = new Series({
    key: "",
    name: "",
    colour,
    weight: "thick",
    x: values.map((_, k) => k),
    y: values,
  });
  if (!series.some) return svg;
  const x = new Scale([0, Math.max(values.length - 1, 1)], [2, width - 4]);
  const y = new Scale(domain ?? extentOf(series.values()), [height - 3, 3]);
  svg.append(new Layers(x, y).line(series));
  const k = series.y.findLastIndex((value) => value !== null);
  const end = { cx: tenth(x.at(k)), cy: tenth(y.at(series.y[k])), r: 2.5 };
  svg.append(tint(draw("circle", end), "fill", colour));
  return svg;
}
