/** The server: one function a question; a token is asked for once and kept for the session. */

import { byId } from "./dom.js";
import { state } from "./state.js";

const TOKEN = "btoks-token";
const KEPT = 600;
const blobs = new Map();
let asking = null;

/** What the server says is wrong, in its own words. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Where something of an item is: its `thumbnail`, `page` or `file`. */
export function address(id, what = "", query = {}) {
  const given = new URLSearchParams({ ...(state.library && { library: state.library }), ...query });
  return `v1/items/${encodeURIComponent(id)}${what && `/${what}`}${given.size ? `?${given}` : ""}`;
}

/** Hits of a search. */
export const search = (body, signal) =>
  json("v1/search", { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

/** An item by its id. */
export const item = (id, signal) => json(address(id), { signal });

/** All libraries, and what is known of one. */
export const libraries = () => json("v1/libraries");
export const stats = (name) => json(`v1/libraries/${encodeURIComponent(name)}/stats`);
export const facets = (name) => json(`v1/libraries/${encodeURIComponent(name)}/facets`);
export const map = (name) => json(`v1/libraries/${encodeURIComponent(name)}/map`);

/** Give the server a file to search by; its id. */
export async function upload(file, signal) {
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  return (await json("v1/uploads", { method: "POST", body: file, headers, signal })).id;
}

/** Show a picture or clip: elements cannot send a token, so with one the bytes are fetched and shown from memory. */
export async function show(element, url) {
  element.dataset.wanted = url;
  const source = sessionStorage.getItem(TOKEN) ? await blobUrl(url).catch(() => url) : url;
  if (element.dataset.wanted === url) element.src = source;
}

/** The bytes of a picture. */
export async function blob(url, signal) {
  return (await request(url, { signal })).blob();
}

/** Open a file of the library in a tab of its own. */
export async function openFile(url) {
  if (!sessionStorage.getItem(TOKEN)) return void window.open(url, "_blank", "noopener");
  const tab = window.open("", "_blank");
  const source = await blobUrl(url);
  if (tab) tab.location.href = source;
}

async function blobUrl(url) {
  if (!blobs.has(url)) {
    blobs.set(url, blob(url).then(URL.createObjectURL));
    blobs.get(url).catch(() => blobs.delete(url));
    if (blobs.size > KEPT) {
      const [oldest, source] = blobs.entries().next().value;
      blobs.delete(oldest);
      source.then(URL.revokeObjectURL);
    }
  }
  return blobs.get(url);
}

async function json(path, options) {
  return (await request(path, options)).json();
}

async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    const answer = await fetch(path, { ...options, headers });
    if (answer.ok) return answer;
    if (answer.status !== 401) throw new ServerError(answer.status, await reason(answer));
    await askForToken(token);
  }
}

async function reason(answer) {
  try {
    const told = await answer.json();
    return told.error?.message ?? `The server answered ${answer.status}.`;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

/** One dialog, however many requests were refused; a token that was refused is forgotten. */
function askForToken(refused) {
  if (refused !== sessionStorage.getItem(TOKEN)) return Promise.resolve();
  sessionStorage.removeItem(TOKEN);
  asking ??= new Promise((resolve) => {
    const dialog = byId("token");
    byId("token-wrong").hidden = !refused;
    dialog.showModal();
    dialog.querySelector("form").onsubmit = () => {
      sessionStorage.setItem(TOKEN, byId("token-field").value.trim());
      byId("token-field").value = "";
      asking = null;
      resolve();
    };
  });
  return asking;
}
