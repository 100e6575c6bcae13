// Numbers and outcomes in words.

/** Outcomes: how they are called, and which colour they have (a CSS variable). */
const OUTCOMES = {
  success: { word: "Success", colour: "good" },
  finished: { word: "Finished", colour: "good" },
  crash: { word: "Crash", colour: "bad" },
  failed: { word: "Failed", colour: "bad" },
  idle: { word: "Idle", colour: "warn" },
  time_limit: { word: "Time limit", colour: "warn" },
  other_done: { word: "Other ended", colour: "muted" },
  none: { word: "Running", colour: "muted" },
};

/** @returns {{word: string, colour: string}} of an outcome, also of one that is not known here */
function outcomeOf(name) {
  return Object.hasOwn(OUTCOMES, name) ? OUTCOMES[name] : { word: name, colour: "muted" };
}

/** A number with a fixed count of decimals and a true minus sign. */
function decimal(value, digits = 2) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "\u2212");
}

/** A time, s: 83.4 becomes 1:23.40. */
function clock(seconds) {
  const hundredths = Math.round(seconds * 100);
  const minutes = Math.floor(hundredths / 6000);
  const rest = (hundredths % 6000) / 100;
  return `${minutes}:${rest.toFixed(2).padStart(5, "0")}`;
}

/** Words as a list: a, b and c. */
function list(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/**
 * Why an episode ended for a car, as far as the outcome does not say it: often nothing.
 * @param {object} end
 * @param {object[]} cars
 */
function reason(end, cars) {
  const parts = end.parts.length ? ` with its ${list(end.parts)}` : "";
  const reasons = {
    failed: "its task could no longer be accomplished",
    idle: "stood still for too long",
    none: "was still driving",
  };
  const touched = [];
  if (end.wall) touched.push(`touched a wall${parts}`);
  if (end.touched !== null) {
    const name = cars[end.touched].name;
    touched.push(end.drove ? `drove into ${name}${parts}` : `was hit by ${name}${sides(end)}`);
  }
  const contact = list(touched);
  if (end.outcome === "crash") return contact || "left its lane";
  const why = Object.hasOwn(reasons, end.outcome) ? reasons[end.outcome] : "";
  return [why, contact].filter(Boolean).join("; ");
}

/** Where a car was hit. */
function sides(end) {
  return end.parts.length ? `, at its ${list(end.parts)}` : "";
}

/**
 * An element with a class and a text; texts from the data come in only this way.
 * @param {string} tag
 * @param {string} [name] its class
 * @param {string} [text]
 * @returns {HTMLElement}
 */
function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

/** The element with an id. */
function byId(id) {
  return document.getElementById(id);
}

/** Sets a text only where it differs, so that nothing is laid out anew for the same text. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
