// The page's one event stream, and the parts of the page that the server renders anew when it tells of a change.
import { tick } from "./times.js";

const RETRY_MS = [500, 1000, 2000, 5000, 10000];
const REFRESH_MS = 400;

// Opens the stream while the tab is seen; `address` is asked each time, so that it carries the offsets reached.
export class Live {
  constructor(address, handlers) {
    this.address = address;
    this.handlers = handlers;
    this.failures = 0;
    this.ended = false;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    addEventListener("pagehide", () => this.close());
    this.open();
  }

  open() {
    if (this.source || this.ended || document.hidden) return;
    clearTimeout(this.timer);
    const source = new EventSource(this.address());
    this.source = source;
    source.onopen = () => {
      if (this.missed) refresh(); // what happened while nobody listened
      this.missed = false;
      this.failures = 0;
      say("live", "Live");
    };
    source.onerror = () => this.lost();
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
    source.addEventListener("end", () => {
      this.ended = true;
      this.close();
      say("", "");
    });
  }

  close() {
    clearTimeout(this.timer);
    this.missed = true;
    this.source?.close();
    this.source = null;
  }

  // Not left to EventSource: it would come back with the offsets of the beginning.
  async lost() {
    this.close();
    if (this.ended || document.hidden) return;
    say("lost", "Connection lost, trying again…");
    this.timer = setTimeout(() => this.retry(), RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)]);
  }

  async retry() {
    const answer = await fetch(location.href, { method: "GET", headers: { Accept: "application/json" } }).catch(() => null);
    if (answer?.status === 401) say("lost", "Signed out: the server was restarted. Type “windlass open”.");
    else if (answer?.ok) this.open();
    else this.lost();
  }
}

function say(state, text) {
  const link = document.getElementById("link");
  link.className = `link ${state}`;
  if (link.textContent !== text) link.textContent = text;
}

let asked = null;
let told = [];

// Ask the server for this page again, soon, and put in those parts that changed. Returns when that is done.
export function refresh() {
  asked ??= new Promise((done) => setTimeout(done, REFRESH_MS)).then(() => {
    asked = null;
    return swap();
  });
  return asked;
}

// Call `then` after each swap.
export function onRefresh(then) {
  told.push(then);
}

const rendered = new WeakMap();

async function swap() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = next.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
    if (!fresh || fresh.innerHTML === rendered.get(part)) continue;
    // The address of a focused link stays focused, or every event would throw keyboard users back.
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    rendered.set(part, fresh.innerHTML);
    part.className = fresh.className;
    for (const [key, value] of Object.entries(fresh.dataset)) part.dataset[key] = value;
    part.replaceChildren(...fresh.childNodes);
    if (focused) part.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
  document.title = next.title;
  tick();
  for (const then of told) then();
}
