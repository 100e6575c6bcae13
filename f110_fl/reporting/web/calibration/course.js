// Where the car drove, and where it was predicted to.

class Course {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} data times, windows and course
   * @param {Theme} theme
   * @param {object} shared what the charts show
   */
  constructor(canvas, data, theme, shared) {
    Object.assign(this, { canvas, data, theme, shared });
  }

  draw() {
    const { canvas, theme, data, shared } = this;
    const { width, height, ratio } = fitPixels(canvas);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const [from, to] = shared.range;
    const seen = (i) => data.times[i] >= from && data.times[i] <= to;
    const place = this.fitted(seen, width, height);
    this.scale(context, place.zoom, height);
    const { measured, predicted } = data.course;
    for (const [name, [xs, ys]] of [["measured", measured], ["predicted", predicted]]) {
      context.strokeStyle = theme.read(LINE_COLOURS[name]);
      context.lineWidth = LINE_WIDTHS[name];
      context.beginPath();
      for (const [first, end] of data.windows) {
        let drawn = false;
        for (let i = first; i < end; i++) {
          if (xs[i] === null || ys[i] === null || !seen(i)) continue;
          if (drawn) context.lineTo(...place.at(xs[i], ys[i]));
          else context.moveTo(...place.at(xs[i], ys[i]));
          drawn = true;
        }
      }
      context.stroke();
    }
    context.fillStyle = theme.read(LINE_COLOURS.predicted);
    for (const [first] of data.windows) if (seen(first)) dot(context, place.at(predicted[0][first], predicted[1][first]), 2.4);
    if (shared.cursor === null) return;
    const i = indexAt(data.times, shared.cursor);
    context.fillStyle = theme.text;
    if (measured[0][i] !== null) dot(context, place.at(measured[0][i], measured[1][i]), 5);
  }

  /** How metres become pixels, so that all that is seen fits. */
  fitted(seen, width, height) {
    const [xs, ys] = this.data.course.predicted;
    let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
    xs.forEach((x, i) => {
      if (!seen(i)) return;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [bottom, top] = [Math.min(bottom, ys[i]), Math.max(top, ys[i])];
    });
    const margin = 26;
    const zoom = Math.min((width - 2 * margin) / Math.max(right - left, 0.5), (height - 2 * margin) / Math.max(top - bottom, 0.5));
    const at = (x, y) => [width / 2 + (x - (left + right) / 2) * zoom, height / 2 - (y - (bottom + top) / 2) * zoom];
    return { zoom, at };
  }

  /** A bar of a round number of metres. */
  scale(context, zoom, height) {
    const metres = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((found) => found * zoom > 60) ?? 200;
    context.strokeStyle = context.fillStyle = this.theme.muted;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(8, height - 8);
    context.lineTo(8 + metres * zoom, height - 8);
    context.stroke();
    context.font = `11px ${this.theme.font}`;
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(`${metres} m`, 8, height - 14);
  }
}

/** Fills a dot. */
function dot(context, [left, top], radius) {
  context.beginPath();
  context.arc(left, top, radius, 0, 2 * Math.PI);
  context.fill();
}
