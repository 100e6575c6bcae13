// The part of the track that is seen, and how fingers and mice change it.

const ZOOM_MIN = 1; // px/m
const ZOOM_MAX = 800; // px/m

/** What lies where on the canvas. World: m, y upwards. Canvas: CSS pixels, y downwards. */
class View {
  constructor() {
    Object.assign(this, { x: 0, y: 0, zoom: 40, width: 1, height: 1 });
    this.whole = true; // the whole track is fitted whenever the size changes
  }

  /** @returns {[number, number]} CSS pixels from the canvas's upper left corner */
  toCanvas(x, y) {
    const { zoom, width, height } = this;
    return [(x - this.x) * zoom + width / 2, (this.y - y) * zoom + height / 2];
  }

  /** @returns {[number, number]} m */
  toWorld(left, top) {
    const { zoom, width, height } = this;
    return [(left - width / 2) / zoom + this.x, this.y - (top - height / 2) / zoom];
  }

  /** Shows all of a box, with room for what is written over the track. */
  fit({ left, right, bottom, top }) {
    const margin = Math.min(48, 0.08 * Math.min(this.width, this.height));
    const [across, along] = [this.width - 2 * margin, this.height - 2 * margin];
    const zoom = Math.min(across / (right - left), along / (top - bottom));
    this.zoom = Math.min(Math.max(zoom, 0.1), ZOOM_MAX);
    this.x = (left + right) / 2;
    this.y = (bottom + top) / 2;
    this.whole = true;
  }

  /** Zooms by a factor around a point of the canvas, which stays where it is. */
  zoomAt(left, top, factor) {
    const [x, y] = this.toWorld(left, top);
    const low = Math.min(ZOOM_MIN, this.zoom);
    this.zoom = Math.min(Math.max(this.zoom * factor, low), ZOOM_MAX);
    this.x = x - (left - this.width / 2) / this.zoom;
    this.y = y + (top - this.height / 2) / this.zoom;
    this.whole = false;
  }

  /** Drags the track by pixels. */
  pan(across, down) {
    this.x -= across / this.zoom;
    this.y += down / this.zoom;
    this.whole = false;
  }
}

/**
 * Pans with one finger or a mouse, zooms with two or a wheel, tells of a tap.
 * @param {HTMLCanvasElement} canvas
 * @param {View} view
 * @param {{moved: (panned: boolean) => void, tapped: (left: number, top: number) => void,
 *   reset: () => void}} then
 */
function gestures(canvas, view, then) {
  const fingers = new Map();
  let travelled = 0;

  const middle = () => {
    const all = [...fingers.values()];
    const left = all.reduce((sum, f) => sum + f.left, 0) / all.length;
    const top = all.reduce((sum, f) => sum + f.top, 0) / all.length;
    const spread = all.length > 1 ? Math.hypot(all[0].left - all[1].left, all[0].top - all[1].top) : 0;
    return { left, top, spread };
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { left: event.clientX - box.left, top: event.clientY - box.top };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    if (!fingers.size) travelled = 0;
    fingers.set(event.pointerId, place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = middle();
    fingers.set(event.pointerId, place(event));
    const after = middle();
    travelled += Math.hypot(after.left - before.left, after.top - before.top);
    if (fingers.size === 1 && travelled < 4) return; // a tap trembles
    view.pan(after.left - before.left, after.top - before.top);
    if (before.spread && after.spread) {
      travelled += 10;
      view.zoomAt(after.left, after.top, after.spread / before.spread);
    }
    then.moved(fingers.size === 1);
  });
  const lift = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    const { left, top } = place(event);
    if (event.type === "pointerup" && !fingers.size && travelled < 4) then.tapped(left, top);
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("dblclick", then.reset);
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { left, top } = place(event);
      const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
      view.zoomAt(left, top, Math.exp(-pixels * 0.0015));
      then.moved(false);
    },
    { passive: false },
  );
}
