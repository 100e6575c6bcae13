// Numbers as they are written in the report: what is absent is a dash, never a zero.

const ABSENT = "\u2013";

/** A whole number with commas: 12,345. */
function count(value) {
  const digits = String(Math.abs(Math.round(value)));
  const grouped = digits.replace(/\B(?=(\d{3})+$)/g, ",");
  return value <= -0.5 ? `\u2212${grouped}` : grouped;
}

/** A number with about three digits that count. */
function number(value) {
  const size = Math.abs(value);
  if (size >= 10000) return count(value);
  if (size >= 100) return decimal(value, 0);
  if (size >= 10) return decimal(value, 1);
  if (size >= 0.1 || size === 0) return decimal(value, 2);
  if (size >= 0.001) return decimal(value, 4);
  const [digits, power] = value.toExponential(1).split("e");
  return `${digits}e${power.replace("+", "")}`.replaceAll("-", "\u2212");
}

/** A share of one as per cent; what is neither none nor all is not rounded to that. */
function share(value) {
  if (value > 0 && value < 0.005) return "<1\u202f%";
  if (value < 1 && value > 0.995) return ">99\u202f%";
  return `${decimal(100 * value, 0)}\u202f%`;
}

/** Seconds that are measured to hundredths, as lap times are. */
function seconds(value) {
  return value < 60 ? `${decimal(value, 2)}\u202fs` : clock(value);
}

/** How long something took, in words: 12.3 s, 5 min 12 s, 2 h 05 min. */
function duration(value) {
  if (value < 59.95) return `${decimal(value, 1)}\u202fs`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)}\u202fmin ${whole % 60}\u202fs`;
  const minutes = Math.round(value / 60);
  const rest = String(minutes % 60).padStart(2, "0");
  return `${Math.floor(minutes / 60)}\u202fh ${rest}\u202fmin`;
}

/** A large number with a letter: 812k, 1.25M. */
function compact(value) {
  const size = Math.abs(value);
  const units = [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  const [unit, letter] = units.find(([least]) => size >= least) ?? [1, ""];
  const text = Number((value / unit).toPrecision(3));
  return `${String(text).replace("-", "\u2212")}${letter}`;
}

/** How numbers are written, by what they are. */
const FORMS = { share, number, seconds, count, duration, compact };

/**
 * A number, or a dash where it is absent.
 * @param {number | null | undefined} value
 * @param {string} form of `FORMS`
 */
function shown(value, form = "number") {
  if (typeof value !== "number") return ABSENT;
  return (Object.hasOwn(FORMS, form) ? FORMS[form] : number)(value);
}

/** An interval, or nothing where it is absent: 83 to 97 %. */
function interval(low, high, form = "number") {
  if (typeof low !== "number" || typeof high !== "number") return "";
  const first = shown(low, form);
  const unit = form === "share" ? "\u202f%" : "";
  return `${first.endsWith(unit) ? first.slice(0, first.length - unit.length) : first} to ${shown(high, form)}`;
}

/** A number of things: 1 client, 2 clients. */
function plural(value, word) {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** A client's name, as its folder in the run has it. */
function clientName(client) {
  return `client ${String(client).padStart(2, "0")}`;
}

/** The number in the middle; null without any. */
function median(values) {
  const sorted = values.filter((value) => typeof value === "number").sort((a, b) => a - b);
  if (!sorted.length) return null;
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
