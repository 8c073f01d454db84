/** One hit, large: the picture, the clip from its start, the page with its neighbours, the passage; and what is near. */

import { address, item as askItem, openFile, search, show } from "./api.js";
import { byId, clock, copyPath, h, icon, iconButton, marked, nameOf, oneOf, placeOf } from "./dom.js";
import { remember } from "./query.js";
import { clip, focus, hitOf, hits, lessLike, moreLike } from "./results.js";
import { go, state } from "./state.js";

const NEAR = 8;
let current = null;
let asking = null;
let pages = null;

/** Make the dialog live. */
export function start() {
  const dialog = byId("detail");
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    leave();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && leave());
  // Of the document: a button that had the focus may have been disabled since.
  document.addEventListener("keydown", (event) => dialog.open && keys(event));
}

/** Show what the address names, or nothing. */
export async function draw() {
  const dialog = byId("detail");
  if (!state.item) return close(dialog);
  if (current?.id === state.item) return current.kind === "pdf" ? drawPage() : undefined;
  asking?.abort();
  asking = new AbortController();
  const known = hitOf(state.item);
  current = known ?? { id: state.item };
  pages = null;
  if (!dialog.open) dialog.showModal();
  if (known) render(known);
  else byId("about").replaceChildren(closer());
  try {
    const found = await askItem(state.item, asking.signal);
    current = { ...found, ...known };
    pages = found.pages ?? null;
    remember(current);
    if (!known) render(current);
    else drawFacts();
    if (current.kind === "pdf") drawPage();
    near(current, asking.signal);
  } catch (error) {
    if (error.name !== "AbortError" && !known) byId("about").replaceChildren(closer(), h("h2", { id: "detail-name" }, "Not here any more"), h("p", {}, error.message));
  }
}

/** Go to the next or the previous hit. */
export function step(by) {
  const place = hits().findIndex((hit) => hit.id === state.item);
  const next = hits()[place + by];
  if (place >= 0 && next) go({ item: next.id, page: "" }, { replace: true });
}

function leave() {
  go({ item: "", page: "" });
}

function close(dialog) {
  asking?.abort();
  if (!dialog.open) return;
  const last = current?.id;
  current = null;
  dialog.close();
  byId("stage").replaceChildren();
  if (!byId("grid-view").hidden) focus(last);
}

const closer = () => iconButton("close", "Close", leave, { class: "round closer" });

function render(hit) {
  byId("stage").replaceChildren(...stage(hit), ...arrows());
  const place = placeOf(hit);
  const score = hit.score == null || !state.item || !scored() ? null : h("p", { class: "match" }, h("i"), h("span", {}, `${Math.round(100 * hit.score)} of 100`));
  score?.style.setProperty("--score", hit.score);
  byId("about").replaceChildren(
    closer(),
    h("p", { class: "kind" }, icon(hit.kind), oneOf(hit.kind), place && hit.kind === "video" ? ` · ${place}` : ""),
    h("h2", { id: "detail-name" }, nameOf(hit)),
    score ?? "",
    h("div", { class: "row" },
      h("button", { type: "button", class: "primary", onclick: () => moreLike(hit) }, icon("more"), "More like this"),
      h("button", { type: "button", class: "secondary", id: "detail-less", hidden: !scored(), onclick: () => lessLike(hit) }, icon("less"), "Less like this")),
    h("div", { class: "path" }, h("code", {}, hit.path ?? hit.id), iconButton("copy", "Copy the path", () => copyPath(hit))),
    hit.path ? h("button", { type: "button", class: "link", onclick: () => openFile(address(hit.id, "file")) }, icon("open"), "Open the original") : "",
    h("dl", { class: "facts", id: "facts" }),
    excerpt(hit) ?? "",
    h("section", { class: "near", id: "near", "aria-label": "Near it" }),
  );
  drawFacts();
}

const scored = () => Boolean(state.q || state.media.length || state.like.length);

/** The text of a page or a caption; a passage is on the stage itself. */
function excerpt(hit) {
  if (!hit.text || hit.kind === "text") return null;
  return h("details", { class: "excerpt", open: hit.kind !== "pdf" }, h("summary", {}, hit.kind === "pdf" ? "Text of the page" : "Text"), h("p", {}, ...marked(hit.text, state.q)));
}

function stage(hit) {
  if (hit.kind === "text" || hit.kind === "vector") {
    return [h("article", { class: "reading", tabindex: "0", "aria-label": "Passage" }, h("p", {}, ...marked(hit.text ?? "", state.q)))];
  }
  if (hit.kind === "video") {
    const video = clip(hit, { class: "shown", controls: true, "aria-hidden": "false", tabindex: "0", "aria-label": nameOf(hit) });
    return [video];
  }
  const image = h("img", { class: hit.kind === "pdf" ? "sheet-page" : "shown", id: "shown", alt: hit.kind === "pdf" ? "" : nameOf(hit) });
  if (hit.kind === "pdf") {
    const wrong = h("p", { role: "alert", hidden: true });
    const told = (failed) => () => ([image.hidden, wrong.hidden, wrong.textContent] = [failed, !failed, `Page ${pageNow()} cannot be shown.`]);
    image.addEventListener("load", told(false));
    image.addEventListener("error", told(true));
    return [image, wrong, pager()];
  }
  // The small picture is there at once; the file itself takes its place.
  show(image, address(hit.id, "thumbnail"));
  const whole = new Image();
  whole.addEventListener("load", () => show(image, address(hit.id, "file")));
  show(whole, address(hit.id, "file"));
  return [image];
}

function arrows() {
  const place = hits().findIndex((hit) => hit.id === state.item);
  if (place < 0) return [];
  return [
    iconButton("left", "Previous result", () => step(-1), { class: "round arrow before", disabled: place === 0 }),
    iconButton("right", "Next result", () => step(1), { class: "round arrow after", disabled: place === hits().length - 1 }),
  ];
}

const pageNow = () => Number(state.page) || current?.page || 1;

function pager() {
  return h("div", { class: "pager", role: "group", "aria-label": "Pages" },
    iconButton("left", "Page before", () => turn(-1), { id: "page-before" }),
    h("span", { id: "page-number", role: "status" }),
    iconButton("right", "Page after", () => turn(1), { id: "page-after" }),
    h("button", { type: "button", class: "link", id: "page-found", onclick: () => go({ page: "" }, { replace: true }) }));
}

function turn(by) {
  const wanted = pageNow() + by;
  if (wanted < 1 || (pages && wanted > pages)) return;
  go({ page: String(wanted) }, { replace: true });
}

function drawPage() {
  const image = byId("shown");
  if (!image) return;
  const page = pageNow();
  image.alt = `${nameOf(current)}, page ${page}`;
  show(image, address(current.id, "page", { page }));
  byId("page-number").textContent = pages ? `Page ${page} of ${pages}` : `Page ${page}`;
  const [before, after] = [byId("page-before"), byId("page-after")];
  const held = document.activeElement;
  before.disabled = page <= 1;
  after.disabled = pages !== null && page >= pages;
  if (held === before && before.disabled) after.focus();
  if (held === after && after.disabled) before.focus();
  byId("page-found").hidden = page === current.page;
  byId("page-found").textContent = `Back to page ${current.page}`;
}

function drawFacts() {
  const { kind, start, end, folder, year, paths, text, metadata } = current;
  const facts = [
    ["Found at", kind === "video" && start != null ? `${clock(start)}${end == null ? "" : ` to ${clock(end)}`}` : ""],
    ["Folder", folder],
    ["Year", year || ""],
    ["Length", kind === "text" && text ? `${text.split(/\s+/).filter(Boolean).length} words` : ""],
    ["Copies", paths?.length > 1 ? paths.join("\n") : ""],
    ...Object.entries(metadata ?? {}).map(([name, value]) => [name, String(value)]),
  ];
  byId("facts")?.replaceChildren(...facts.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** What lies nearest to it, as small pictures. */
async function near(hit, signal) {
  const body = { like: [hit.id], k: NEAR, min_score: 0, group: "file", ...(state.library && { library: state.library }) };
  const found = await search(body, signal).catch(() => ({ hits: [] }));
  if (signal.aborted || !found.hits.length) return;
  const links = found.hits.filter((each) => each.id !== hit.id).map((each) => {
    remember(each);
    const inside = each.kind === "text" ? h("span", { class: "words" }, each.text ?? nameOf(each)) : h("img", { alt: "" });
    if (each.kind !== "text") show(inside, address(each.id, "thumbnail"));
    const label = [nameOf(each), placeOf(each)].filter(Boolean).join(", ");
    return h("button", { type: "button", "aria-label": label, title: label, onclick: () => go({ item: each.id, page: "" }) }, inside);
  });
  byId("near").replaceChildren(h("h3", {}, "Near it"), h("div", { class: "tiles" }, ...links));
}

function keys(event) {
  if (event.target.matches("video, input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), PageDown: () => turn(1), PageUp: () => turn(-1), "]": () => turn(1), "[": () => turn(-1), c: () => copyPath(current), "+": () => moreLike(current), "-": () => scored() && lessLike(current) }[event.key];
  const paging = ["PageDown", "PageUp", "]", "["].includes(event.key);
  if (!act || (paging && current?.kind !== "pdf")) return;
  event.preventDefault();
  act();
}
