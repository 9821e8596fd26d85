// The log pane: a tab for each file, text as a terminal would show it, the last lines only.
import { node, pieces, whole } from "./ansi.js";

const CHUNK_LINES = 200;
const MOST_CHUNKS = 100; // 20,000 lines
const TAIL_BYTES = 3_000_000; // of a log that is already long; the rest is a download away
const NEAR_END_PX = 30;

// One log file: its lines in chunks that the browser lays out only when seen.
class LogFile {
  constructor(path, offset) {
    this.path = path;
    this.next = offset;
    this.skipping = offset > 0; // up to the first whole line
    this.root = document.createElement("div");
    this.root.className = "lines";
    this.look = null;
    this.rest = ""; // of an escape sequence that was cut
    this.open = ""; // the line that has no end yet
    if (offset > 0) this.leftOut();
  }

  add(text) {
    if (this.skipping) {
      const end = text.indexOf("\n");
      if (end < 0) return;
      this.skipping = false;
      text = text.slice(end + 1);
    }
    const [full, rest] = whole(this.rest + text);
    this.rest = rest;
    const lines = (this.open + full).split("\n");
    this.open = lines.pop();
    for (const line of lines) {
      this.look = this.write(this.line(), line);
      this.current = null;
    }
    // A progress bar redrawn a thousand times without an end of line must not grow for ever.
    const back = this.open.lastIndexOf("\r", this.open.length - 2);
    if (back > 0) {
      this.look = pieces(this.open.slice(0, back), this.look)[1];
      this.open = this.open.slice(back);
    }
    if (this.open) this.write(this.line(), this.open);
  }

  // Fill the element with the line as it stands after its carriage returns: each begins it anew.
  write(element, text) {
    text = text.replace(/\r+$/, "");
    const back = text.lastIndexOf("\r");
    let look = this.look;
    if (back >= 0) look = pieces(text.slice(0, back), look)[1];
    const [found, after] = pieces(text.slice(back + 1), look);
    element.replaceChildren(...found.map(node));
    return after;
  }

  line() {
    if (this.current) return this.current;
    if (!this.chunk || this.chunk.childElementCount >= CHUNK_LINES) {
      this.chunk = document.createElement("div");
      this.chunk.className = "chunk";
      this.root.append(this.chunk);
      if (this.root.querySelectorAll(".chunk").length > MOST_CHUNKS) {
        this.root.querySelector(".chunk").remove();
        this.leftOut();
      }
    }
    this.current = document.createElement("div");
    this.chunk.append(this.current);
    return this.current;
  }

  leftOut() {
    if (this.root.querySelector(".left-out")) return;
    const note = document.createElement("p");
    note.className = "left-out";
    note.textContent = "Earlier lines are not shown; download the file for all of them.";
    this.root.prepend(note);
  }
}

// The log of the environment's build, which matters until the script speaks.
function isBuild(path) {
  return path.includes("image_build");
}

export class Logs {
  constructor() {
    this.files = new Map();
    this.following = true;
    this.pane = document.getElementById("log");
    this.tabs = document.getElementById("log-tabs");
    this.end = document.getElementById("log-end");
    this.raw = document.getElementById("log-raw");
    this.listed();
    this.pane.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.end.addEventListener("click", () => this.follow());
    this.tabs.addEventListener("click", (event) => this.chosen(event.target.closest("[role=tab]")));
    this.tabs.addEventListener("keydown", (event) => this.key(event));
    document.getElementById("log-wrap").addEventListener("change", (event) => {
      this.pane.classList.toggle("wrap", event.target.checked);
      if (this.following) this.follow();
    });
    new ResizeObserver(() => this.following && this.follow()).observe(this.pane);
  }

  // Take in the files that the page lists; long ones are begun near their end.
  listed() {
    for (const item of document.querySelectorAll("#log-files [data-path]")) {
      const { path, size, url } = item.dataset;
      this.file(path, Math.max(0, Number(size) - TAIL_BYTES)).url = url;
    }
    this.showRaw();
  }

  // How far each file has been read, for the stream to go on from.
  offsets() {
    return Object.fromEntries([...this.files.values()].filter((file) => file.next).map((file) => [file.path, file.next]));
  }

  add({ file: path, offset, next, text }) {
    const file = this.file(path, 0);
    if (next <= file.next || offset > file.next) return; // a repeat; or not what was asked for
    file.next = next;
    file.add(text);
    this.tab(path).classList.add("has-text");
    if (!this.shown || (!this.picked && isBuild(this.shown) && !isBuild(path))) this.show(path, false);
    else if (this.shown === path && this.following) this.follow();
  }

  file(path, offset) {
    if (!this.files.has(path)) {
      this.files.set(path, new LogFile(path, offset));
      this.addTab(path);
    }
    return this.files.get(path);
  }

  addTab(path) {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.role = "tab";
    tab.dataset.path = path;
    tab.title = path;
    tab.textContent = path.replace(/^[^/]*\//, "").replace(/\.(txt|log)$/, "");
    tab.ariaSelected = "false";
    tab.tabIndex = -1;
    tab.setAttribute("aria-controls", "log");
    const after = [...this.tabs.children].find((other) => other.dataset.path > path);
    this.tabs.insertBefore(tab, after ?? null);
  }

  tab(path) {
    return [...this.tabs.children].find((tab) => tab.dataset.path === path);
  }

  chosen(tab) {
    if (tab) this.show(tab.dataset.path, true);
  }

  show(path, picked) {
    this.picked ||= picked;
    this.shown = path;
    for (const tab of this.tabs.children) {
      const mine = tab.dataset.path === path;
      tab.ariaSelected = String(mine);
      tab.tabIndex = mine ? 0 : -1;
    }
    this.pane.replaceChildren(this.files.get(path).root);
    this.showRaw();
    this.follow();
  }

  showRaw() {
    const url = this.files.get(this.shown)?.url;
    this.raw.hidden = !url;
    if (url) this.raw.href = url;
  }

  key(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const tabs = [...this.tabs.children];
    const at = tabs.indexOf(document.activeElement);
    if (!by || at < 0) return;
    const next = tabs[(at + by + tabs.length) % tabs.length];
    next.focus();
    this.chosen(next);
  }

  scrolled() {
    this.following = this.pane.scrollHeight - this.pane.scrollTop - this.pane.clientHeight < NEAR_END_PX;
    this.end.hidden = this.following;
  }

  follow() {
    this.following = true;
    this.end.hidden = true;
    this.pane.scrollTop = this.pane.scrollHeight;
  }
}
