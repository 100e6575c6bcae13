// The recordings in a replay's file.

/** The version of the data that this page reads. */
const FORMAT = 1;

/**
 * The recordings in a replay page.
 * @param {Document} page this one, or another one that was parsed
 * @returns {Recording[]}
 */
function readRecordings(page) {
  const element = page.getElementById("data");
  if (!element) throw new Error("This file is not a replay.");
  const document = JSON.parse(element.textContent);
  if (document.format !== FORMAT) throw new Error("This replay was written by another version.");
  return document.recordings.map((raw) => new Recording(raw));
}
