/** Elements, icons and the small texts that every part of the page needs. */

const SVG = "http://www.w3.org/2000/svg";

/** The element with an id that index.html holds. */
export const byId = (id) => document.getElementById(id);

/** An element: attributes whose name begins with "on" are listeners, true and false set and leave out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== false));
  return element;
}

/** An icon of icons.svg; texts beside it or labels say what it means. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${new URL("icons.svg", import.meta.url).pathname}#${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon alone; its label is its tooltip too. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h("button", { type: "button", class: "round", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}

export const KINDS = ["image", "video", "pdf", "text"];
const NAMES = { image: "Images", video: "Videos", pdf: "Pages", text: "Texts", vector: "Vectors" };
const ONE = { image: "Image", video: "Video", pdf: "Page", text: "Text", vector: "Vector" };

/** What a kind of item is called: of many, or of one. */
export const kindName = (kind) => NAMES[kind] ?? kind;
export const oneOf = (kind) => ONE[kind] ?? kind;

export const number = new Intl.NumberFormat("en").format;
export const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** The last part of a path, or an id where there is no path. */
export const nameOf = (item) => (item.path ? item.path.split(/[\\/]/).pop() : item.id);

/** The two folders that a path ends in: enough to tell where a thing is. */
export const folderOf = (item) => (item.path ?? "").split(/[\\/]/).slice(0, -1).filter(Boolean).slice(-2).join(" / ");

/** Seconds as a clock shows them. */
export function clock(seconds) {
  const whole = Math.floor(seconds ?? 0);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Where in its file a hit is. */
export function placeOf(item) {
  if (item.kind === "pdf" && item.page) return `Page ${item.page}`;
  if (item.kind === "video" && item.start != null) return item.end == null ? clock(item.start) : `${clock(item.start)}–${clock(item.end)}`;
  return "";
}

/** Bytes as people write them. */
export function bytes(count) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), units.length - 1);
  return `${(count / 1000 ** power).toFixed(power && count / 1000 ** power < 100 ? 1 : 0)} ${units[power]}`;
}

const LITTLE = new Set("and are but for from has have how into not one that the this was what when where which who with you your".split(" "));

/** Text with the words of a query marked, also where they go on: “recipe” marks “recipes”. */
export function marked(text, query) {
  const words = new Set((query.toLowerCase().match(/[\p{L}\p{N}]{3,}/gu) ?? []).filter((word) => !LITTLE.has(word)));
  if (!words.size) return [text];
  const ways = [...words].map((word) => (word.length > 3 ? `${word}\\p{L}{0,2}` : word));
  const pieces = text.split(new RegExp(`(?<![\\p{L}\\p{N}])(${ways.join("|")})(?![\\p{L}\\p{N}])`, "giu"));
  return pieces.map((piece, place) => (place % 2 ? h("mark", {}, piece) : piece)).filter((piece) => piece !== "");
}

/** Tell what has happened, for eyes and for screen readers. */
export function announce(text) {
  byId("toast").textContent = text;
  byId("toast").classList.add("shown");
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => byId("toast").classList.remove("shown"), 2400);
}

/** Put a path on the clipboard. */
export async function copyPath(item) {
  try {
    await navigator.clipboard.writeText(item.path ?? item.id);
  } catch {
    // Without a secure origin there is no clipboard API: a selection and the old command still work.
    const field = h("textarea", { class: "offscreen" });
    field.value = item.path ?? item.id;
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  announce("Path copied");
}
