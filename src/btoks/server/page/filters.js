/** Filters by type, folder and year, as chips with counts, and the condition they make together. */

import { byId, h, icon, KINDS, kindName, number } from "./dom.js";
import { go, state } from "./state.js";

let facets = { kinds: {}, folders: {}, years: {} };
let drawn = null;

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

/** The condition in SQL that the filters make; null where there is none. */
export function condition(of = state) {
  const parts = [];
  if (of.kinds.length) parts.push(`kind IN (${of.kinds.map(quoted).join(", ")})`);
  if (of.folder) parts.push(`(folder = ${quoted(of.folder)} OR starts_with(folder, ${quoted(`${of.folder}/`)}))`);
  if (of.from) parts.push(`year >= ${Number(of.from)}`);
  if (of.to) parts.push(`year <= ${Number(of.to)}`);
  return parts.length ? parts.join(" AND ") : null;
}

/** Whether any filter is on. */
export const filtered = (of = state) => Boolean(of.kinds.length || of.folder || of.from || of.to);

/** Take all filters off. */
export const unfilter = () => go({ kinds: [], folder: "", from: "", to: "" });

/** Make the filters live. */
export function start() {
  byId("words").addEventListener("click", () => go({ words: !state.words }));
  byId("by-file").addEventListener("click", () => go({ byFile: !state.byFile }));
  byId("unfilter").addEventListener("click", unfilter);
  byId("folder-search").addEventListener("input", drawFolders);
  byId("from").addEventListener("change", (event) => go(between(event.target.value, state.to)));
  byId("to").addEventListener("change", (event) => go(between(state.from, event.target.value)));
  for (const [button, panel] of [["folder", "folders"], ["date", "dates"]]) {
    byId(panel).addEventListener("beforetoggle", (event) => {
      if (event.newState !== "open") return;
      drawLists();
      place(byId(button), byId(panel));
    });
    byId(panel).addEventListener("toggle", (event) => event.newState === "open" && byId(panel).querySelector("input, select").focus());
  }
}

/** Show the counts of a library. */
export function fill(found) {
  facets = { kinds: {}, folders: {}, years: {}, ...found };
  drawn = null;
  draw();
}

/** Show which filters are on, if they have changed. */
export function draw() {
  const { kinds, folder: inside, from, to, words, byFile } = state;
  const now = JSON.stringify([kinds, inside, from, to, words, byFile]);
  if (now === drawn) return;
  drawn = now;
  drawKinds();
  if (document.querySelector(".popover:popover-open")) drawLists();
  const folder = state.folder && state.folder.split("/").pop();
  label("folder", folder || "Folder", Boolean(folder));
  const years = state.from === state.to ? state.from : `${state.from || "…"} – ${state.to || "…"}`;
  label("date", years || "Date", Boolean(years));
  byId("words").setAttribute("aria-pressed", state.words);
  byId("by-file").setAttribute("aria-pressed", state.byFile);
  byId("unfilter").hidden = !filtered();
}

/** What the panels hold; made when one opens, since there may be hundreds of folders. */
function drawLists() {
  drawFolders();
  drawYears();
}

function label(id, text, on) {
  byId(id).querySelector("span").textContent = text;
  byId(id).classList.toggle("on", on);
}

function drawKinds() {
  const known = Object.keys(facets.kinds);
  const ordered = [...KINDS.filter((kind) => known.includes(kind)), ...known.filter((kind) => !KINDS.includes(kind)).sort()];
  byId("kinds").replaceChildren(...ordered.map((kind) => {
    const on = state.kinds.includes(kind);
    const toggle = () => {
      go({ kinds: on ? state.kinds.filter((each) => each !== kind) : [...state.kinds, kind] });
      byId("kinds").querySelector(`[data-kind="${CSS.escape(kind)}"]`)?.focus();
    };
    const count = h("span", { class: "count" }, number(facets.kinds[kind]));
    return h("button", { type: "button", class: "chip", "aria-pressed": String(on), "data-kind": kind, onclick: toggle }, icon(kind in NAMED ? kind : "vector"), kindName(kind), count);
  }));
}

const NAMED = Object.fromEntries(KINDS.map((kind) => [kind, true]));

/** Every folder with what is in it and below it. */
function tree() {
  const counts = new Map();
  for (const [folder, count] of Object.entries(facets.folders)) {
    const steps = folder.split("/");
    for (let depth = 1; depth <= steps.length; depth += 1) {
      const path = steps.slice(0, depth).join("/");
      if (path) counts.set(path, (counts.get(path) ?? 0) + count);
    }
  }
  return [...counts].sort(([one], [other]) => one.localeCompare(other));
}

function drawFolders() {
  const wanted = byId("folder-search").value.trim().toLowerCase();
  const option = (path, name, count, depth) => {
    const choose = () => {
      byId("folders").hidePopover();
      go({ folder: path });
      byId("folder").focus();
    };
    const attributes = { type: "button", "aria-pressed": String(state.folder === path), onclick: choose };
    const button = h("button", attributes, h("span", {}, name), h("span", { class: "count" }, number(count)));
    button.style.setProperty("--depth", depth);
    return h("li", {}, button);
  };
  const all = Object.values(facets.folders).reduce((sum, count) => sum + count, 0);
  const found = tree().filter(([path]) => path.toLowerCase().includes(wanted)).slice(0, 300);
  const named = found.map(([path, count]) => {
    const steps = path.split("/");
    return wanted ? option(path, path, count, 0) : option(path, steps.at(-1), count, steps.length - 1);
  });
  byId("folder-list").replaceChildren(...(wanted ? named : [option("", "All folders", all, 0), ...named]));
  if (!named.length) byId("folder-list").append(h("li", { class: "none" }, wanted ? "No folder has this name" : "There are no folders"));
}

function drawYears() {
  const years = Object.keys(facets.years).map(Number).sort((one, other) => one - other);
  if (!years.length) return byId("years").replaceChildren(h("p", { class: "none" }, "Nothing here has a date"));
  const most = Math.max(...Object.values(facets.years));
  const span = Array.from({ length: Math.min(years.at(-1) - years[0] + 1, 200) }, (_, place) => years.at(-1) - place).reverse();
  byId("years").replaceChildren(...span.map((year) => bar(year, facets.years[year] ?? 0, most)));
  for (const [id, empty] of [["from", "any"], ["to", "any"]]) {
    byId(id).replaceChildren(h("option", { value: "" }, empty), ...years.map((year) => h("option", { value: year }, year)));
    byId(id).value = state[id];
  }
}

function bar(year, count, most) {
  const inside = (!state.from || year >= state.from) && (!state.to || year <= state.to);
  const choose = (event) => {
    const [low, high] = event.shiftKey && state.from ? [Math.min(year, state.from), Math.max(year, state.to || year)] : [year, year];
    const same = !event.shiftKey && state.from === String(year) && state.to === String(year);
    go(same ? { from: "", to: "" } : { from: String(low), to: String(high) });
  };
  const text = `${year}: ${number(count)}`;
  const button = h("button", { type: "button", class: inside ? "in" : "", disabled: !count, "aria-label": text, title: text, onclick: choose }, h("i"), h("span", {}, String(year)));
  button.style.setProperty("--height", count / most);
  return button;
}

function between(from, to) {
  return from && to && Number(from) > Number(to) ? { from: to, to: from } : { from, to };
}

function place(button, panel) {
  const box = button.getBoundingClientRect();
  panel.style.setProperty("top", `${box.bottom + 8}px`);
  panel.style.setProperty("left", `${Math.max(8, Math.min(box.left, innerWidth - 336))}px`);
}
