// Colours: those of the style sheet, as canvases need them, in light and dark.

/** The seven colours that cars take in turn: Okabe and Ito's, which the colour-blind tell apart. */
const CAR_COLOURS = 7;

/** Of the colours from slow to fast. */
const SHADES = 24;

class Theme {
  constructor() {
    this.root = document.documentElement;
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.system.addEventListener("change", () => this.use(this.system.matches));
    this.listeners = [];
    this.use(this.system.matches);
  }

  /** Calls back whenever the colours have changed. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Changes between light and dark. */
  toggle() {
    this.use(!this.dark);
  }

  /** @param {boolean} dark */
  use(dark) {
    this.dark = dark;
    this.root.dataset.theme = dark ? "dark" : "light";
    const style = getComputedStyle(this.root);
    this.read = (name) => style.getPropertyValue(`--${name}`).trim();
    this.font = this.read("font");
    const names = ["ground", "wall", "free", "line", "text", "muted", "faint", "panel", "accent"];
    for (const name of [...names, "good", "bad", "warn", "grid"]) this[name] = this.read(name);
    this.cars = Array.from({ length: CAR_COLOURS }, (_, i) => this.read(`car-${i}`));
    this.shades = shades(["slow", "middling", "brisk", "fast"].map((name) => this.read(name)));
    for (const listener of this.listeners) listener();
  }

  /** @returns {string} of a car, by its index */
  car(index) {
    return this.cars[index % CAR_COLOURS];
  }

  /**
   * @param {number} share of the highest speed
   * @returns {number} index among the shades
   */
  shade(share) {
    return Math.max(0, Math.min(SHADES - 1, Math.floor(Math.abs(share) * SHADES)));
  }
}

/** Colours evenly from stop to stop, each stop written #rrggbb. */
function shades(stops) {
  const parts = stops.map((stop) => [1, 3, 5].map((i) => parseInt(stop.slice(i, i + 2), 16)));
  return Array.from({ length: SHADES }, (_, k) => {
    const place = (k / (SHADES - 1)) * (parts.length - 1);
    const low = Math.min(Math.floor(place), parts.length - 2);
    const mix = parts[low].map((v, i) => Math.round(v + (place - low) * (parts[low + 1][i] - v)));
    return `rgb(${mix.join(" ")})`;
  });
}

/**
 * Gives a canvas as many pixels as the screen has for it.
 * @param {HTMLCanvasElement} canvas
 * @returns {{width: number, height: number, ratio: number}} CSS pixels, and device pixels in one
 */
function fitPixels(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  return { width, height, ratio };
}
