/** The search box: typing, files that are dropped, pasted or chosen, and chips for every part that is no text. */

import { address, item, show, upload } from "./api.js";
import { announce, byId, h, icon, iconButton, nameOf, oneOf } from "./dom.js";
import { go, state } from "./state.js";

const PAUSE = 110;
const STEP = 1500;
/** What is known of uploads: a name, a kind, and a picture of it while this page lives. */
const uploads = new Map();
/** What is known of items that are parts of a query. */
const items = new Map();

let timer = 0;
let typedAt = 0;

/** Remember an item, for its chip to have a name. */
export const remember = (each) => items.set(each.id, each);

/** The kind of an upload, as far as it is known. */
export const uploadKind = (id) => uploads.get(id)?.kind;

/** Make the search box live. */
export function start() {
  const field = byId("q");
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(typed, PAUSE);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && field.selectionStart === 0 && field.selectionEnd === 0) removeLast();
  });
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    typed();
    typedAt = 0;
    if (matchMedia("(pointer: coarse)").matches) field.blur();
  });
  byId("clear").addEventListener("click", clear);
  byId("attach").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = "";
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || byId("token").open) return;
    event.preventDefault();
    take(files);
  });
  watchDrops();
}

/** Show what the address asks for. */
export function draw() {
  const field = byId("q");
  if (field.value.trim() !== state.q) field.value = state.q;
  const chips = [
    ...state.media.map((id) => mediaChip(id)),
    ...state.like.map((id) => itemChip(id, "like")),
    ...state.less.map((id) => itemChip(id, "less")),
    ...[...uploads].filter(([, each]) => each.sending).map(([key, each]) => chip(each, each.name, () => stop(key), "sending")),
  ];
  byId("parts").replaceChildren(...chips);
  byId("clear").hidden = !(state.q || chips.length);
  byId("ask").classList.toggle("filled", Boolean(state.q || chips.length));
}

/** Ask for nothing. */
export function clear() {
  clearTimeout(timer);
  byId("q").value = "";
  go({ q: "", media: [], like: [], less: [], weak: false });
  byId("q").focus();
}

/** Add files to the query. */
export async function take(files) {
  const good = files.filter((file) => /^(image|video)\/|^application\/pdf$/.test(file.type));
  if (good.length < files.length) announce("Only pictures, videos and PDFs can be searched by");
  await Promise.all(good.map(send));
}

function typed() {
  clearTimeout(timer);
  const q = byId("q").value.trim();
  if (q === state.q) return;
  // Letters of one spell of typing are one step in the history.
  const replace = performance.now() - typedAt < STEP;
  typedAt = performance.now();
  go({ q, weak: false }, { replace });
}

async function send(file) {
  const key = `sending-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  const kind = file.type.startsWith("image") ? "image" : file.type.startsWith("video") ? "video" : "pdf";
  const stopped = new AbortController();
  const known = { name: file.name || `Pasted ${kind}`, kind, url: URL.createObjectURL(file), stopped, sending: true };
  uploads.set(key, known);
  draw();
  try {
    const id = await upload(file, stopped.signal);
    uploads.set(id, { ...known, sending: false });
    uploads.delete(key);
    go({ media: [...state.media, id], weak: false });
  } catch (error) {
    uploads.delete(key);
    if (error.name !== "AbortError") announce(error.message);
  }
  draw();
}

function stop(key) {
  uploads.get(key).stopped.abort();
}

function mediaChip(id) {
  const known = uploads.get(id) ?? { name: "Your file", kind: "image" };
  return chip(known, known.name, () => go({ media: state.media.filter((each) => each !== id) }));
}

function itemChip(id, role) {
  const known = items.get(id);
  if (!known) item(id).then((found) => (remember(found), draw()), () => {});
  const name = `${role === "like" ? "Like" : "Unlike"} ${known ? nameOf(known) : "…"}`;
  const shown = known && known.kind !== "text" ? { kind: known.kind, thumbnail: address(id, "thumbnail") } : { kind: known?.kind ?? "image" };
  return chip(shown, name, () => go({ [role]: state[role].filter((each) => each !== id) }), role);
}

function chip(shown, name, remove, role = "") {
  return h("li", { class: `part ${role}`, title: name }, portrait(shown), h("span", {}, name), iconButton("close", `Remove ${name}`, remove));
}

function portrait(shown) {
  if (shown.url && shown.kind === "image") return h("img", { src: shown.url, alt: "" });
  if (shown.url && shown.kind === "video") return h("video", { src: shown.url, muted: true, preload: "metadata" });
  if (shown.thumbnail) {
    const image = h("img", { alt: "" });
    show(image, shown.thumbnail);
    return image;
  }
  return h("span", { class: "glyph", "aria-label": oneOf(shown.kind) }, icon(shown.kind));
}

function removeLast() {
  for (const part of ["less", "like", "media"]) {
    if (state[part].length) return go({ [part]: state[part].slice(0, -1) });
  }
}

function watchDrops() {
  let depth = 0;
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const shown = (change) => {
    depth = change === 0 ? 0 : Math.max(depth + change, 0);
    byId("drop").hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => carries(event) && shown(1));
  addEventListener("dragleave", (event) => carries(event) && shown(-1));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    shown(0);
    take([...event.dataTransfer.files]);
  });
}
