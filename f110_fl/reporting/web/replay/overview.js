// A small map of the whole track, where only a part of it is seen.

const OVERVIEW = { width: 168, height: 120, margin: 8 }; // px, at most

class Overview {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {View} view of the large canvas
   * @param {Theme} theme
   */
  constructor(canvas, view, theme) {
    Object.assign(this, { canvas, view, theme, own: new View(), paths: new WeakMap() });
  }

  /** Draws the map, or hides it where the view shows everything. */
  draw({ episode, at }) {
    const { box } = episode.track;
    const [left, top] = this.view.toCanvas(box.left, box.top);
    const [right, bottom] = this.view.toCanvas(box.right, box.bottom);
    const { width, height } = this.view;
    const all = left >= 0 && top >= 0 && right <= width && bottom <= height;
    this.canvas.hidden = all || width < 300;
    if (!this.canvas.hidden) this.drawMap(episode, at);
  }

  /** Gives the map the shape of the track. */
  shape({ left, right, bottom, top }) {
    const { margin } = OVERVIEW;
    const across = (OVERVIEW.width - 2 * margin) / (right - left);
    const zoom = Math.min(across, (OVERVIEW.height - 2 * margin) / (top - bottom));
    const width = Math.round((right - left) * zoom + 2 * margin);
    const height = Math.round(Math.max((top - bottom) * zoom, 4) + 2 * margin);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const middle = { x: (left + right) / 2, y: (bottom + top) / 2 };
    Object.assign(this.own, { ...middle, zoom, width, height });
  }

  drawMap(episode, at) {
    const { canvas, own, theme } = this;
    const { track } = episode;
    this.shape(track.box);
    const { ratio } = fitPixels(canvas);
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.paths.has(track)) this.paths.set(track, path(track.walls, true));
    const [left, top] = own.toCanvas(0, 0);
    const scale = own.zoom * ratio;
    context.setTransform(scale, 0, 0, -scale, left * ratio, top * ratio);
    context.fillStyle = theme.free;
    context.strokeStyle = theme.line;
    context.lineWidth = 1 / own.zoom;
    context.fill(this.paths.get(track), "evenodd");
    context.stroke(this.paths.get(track));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawWindow(context);
    for (let car = 0; car < episode.cars; car++) {
      const { x, y } = episode.pose(car, at);
      context.fillStyle = theme.car(car);
      context.beginPath();
      context.arc(...own.toCanvas(x, y), 3, 0, 2 * Math.PI);
      context.fill();
    }
  }

  /** The part that is seen. */
  drawWindow(context) {
    const { view, own } = this;
    const [left, top] = own.toCanvas(...view.toWorld(0, 0));
    const [right, bottom] = own.toCanvas(...view.toWorld(view.width, view.height));
    context.strokeStyle = this.theme.accent;
    context.lineWidth = 1.5;
    context.strokeRect(left, top, right - left, bottom - top);
  }
}
