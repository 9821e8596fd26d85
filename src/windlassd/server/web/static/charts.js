// Metric curves, drawn by uPlot (a global: see docs/dev/2026-11-20-charts.md), fetched and drawn only when seen.

const uPlot = globalThis.uPlot;
const POINTS = 1000;
const HEIGHT = 165;
const REDRAW_MS = 700;
const HALVES = new Set(["train", "training", "val", "valid", "validation", "test", "eval"]);
const COLOURS = 6;

export class Charts {
  constructor(root, address) {
    this.root = root;
    this.address = address;
    this.cards = new Map();
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.target.card.visible(entry.isIntersecting);
    }, { rootMargin: "200px" });
    const redraw = () => this.cards.forEach((card) => card.draw());
    this.axis = document.getElementById("axis");
    this.log = document.getElementById("log-scale");
    this.axis.addEventListener("change", redraw);
    this.log.addEventListener("change", redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  // Show these series, those that belong together in one chart.
  show(names) {
    const groups = new Map();
    for (const name of names) groups.set(groupOf(name), [...(groups.get(groupOf(name)) ?? []), name]);
    for (const [key, members] of groups) {
      if (!this.cards.has(key)) this.add(key);
      this.cards.get(key).take(members, members.length > 1 ? key : members[0]);
    }
  }

  changed(names) {
    for (const name of names) this.cards.get(groupOf(name))?.changed();
  }

  add(key) {
    const card = new Card(this);
    this.cards.set(key, card);
    card.element.card = card;
    const order = [...this.cards.keys()].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
    const next = order[order.indexOf(key) + 1];
    this.root.insertBefore(card.element, next === undefined ? null : this.cards.get(next).element);
    this.seen.observe(card.element);
  }
}

class Card {
  constructor(charts) {
    this.charts = charts;
    this.members = [];
    this.series = new Map();
    this.stale = true;
    this.element = element("figure", "chart");
    this.head = element("figcaption");
    this.plot = element("div", "plot");
    this.note = element("p", "note");
    this.element.append(this.head, this.plot, this.note);
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  take(members, title) {
    if (members.join("\0") === this.members.join("\0")) return;
    this.members = members;
    this.title = title;
    this.legend();
    this.changed();
  }

  visible(is) {
    this.isVisible = is;
    if (is && this.stale) this.changed();
  }

  // Fetch again, at most every so often, and only while it can be seen.
  changed() {
    this.stale = true;
    if (!this.isVisible || this.busy) return;
    this.busy = true;
    const wait = Math.max(0, (this.fetched ?? -Infinity) + REDRAW_MS - performance.now());
    setTimeout(async () => {
      this.stale = false;
      this.fetched = performance.now();
      await Promise.all(this.members.map((name) => this.fetch(name)));
      this.draw();
      this.busy = false;
      if (this.stale) this.changed();
    }, wait);
  }

  async fetch(name) {
    const address = `${this.charts.address}?points=${POINTS}&name=${encodeURIComponent(name)}`;
    const answer = await fetch(address).catch(() => null);
    if (!answer?.ok) return;
    const found = (await answer.json()).metrics[name];
    if (found && found.type !== "json") this.series.set(name, found);
  }

  draw() {
    const shown = this.members.filter((name) => this.series.has(name));
    const width = this.plot.clientWidth;
    if (!shown.length || !width) return;
    const byTime = this.charts.axis.value === "time";
    const curves = shown.map((name) => points(this.series.get(name), byTime));
    const log = this.charts.log.checked && curves.some((curve) => curve.ys.some((y) => y > 0));
    const data = align(curves.map((curve) => [curve.xs, log ? curve.ys.map((y) => (y > 0 ? y : null)) : curve.ys]));
    this.infinite = curves.map((curve) => curve.infinite);
    this.note.textContent = note(curves, log, this.charts.log.checked);
    const look = `${shown.join("\0")}|${byTime}|${log}|${theme()}`;
    if (this.uplot && look === this.look) this.uplot.setData(data);
    else {
      this.look = look;
      this.uplot?.destroy();
      this.uplot = new uPlot(this.options(shown, width, byTime, log), data, this.plot);
    }
    this.legend();
  }

  resize() {
    const width = this.plot.clientWidth;
    if (!width) return;
    if (!this.uplot) this.draw();
    else if (this.uplot.width !== width) this.uplot.setSize({ width, height: HEIGHT });
  }

  options(shown, width, byTime, log) {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--soft").trim();
    const line = style.getPropertyValue("--hairline").trim();
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      padding: [10, 12, 0, 0],
      cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false } },
      scales: { x: { time: byTime }, y: log ? { distr: 3 } : { range: (_, low, high) => range(low, high) } },
      axes: [
        { ...axis, size: 26, gap: 4, grid: { show: false } },
        { ...axis, gap: 4, size: (_, labels) => 14 + 6.2 * Math.max(1, ...(labels ?? []).map((l) => (l ?? "").length)), values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))) },
      ],
      series: [{}, ...shown.map((name, i) => ({ label: name, stroke: colour(i), width: 1.6, points: { show: this.series.get(name).values.length < 3 } }))],
      hooks: { setCursor: [(u) => this.legend(u.cursor.idx)], draw: [(u) => marks(u, this.infinite)] },
    };
  }

  // The title and each curve's value: at the cursor, else the last.
  legend(at = null) {
    const parts = [element("b", "", this.title)];
    this.members.forEach((name, i) => {
      const values = this.series.get(name)?.values ?? [];
      const value = at === null || !this.uplot ? values.at(-1) : this.uplot.data[i + 1]?.[at];
      const item = element("span", `curve c${(i % COLOURS) + 1}`);
      if (this.members.length > 1) item.append(element("i", "", half(name)));
      item.append(element("span", "num", value === undefined ? "" : value === null ? "–" : short(value)));
      parts.push(item);
    });
    if (at !== null && this.uplot) {
      const x = this.uplot.data[0][at];
      parts.push(element("span", "at", this.charts.axis.value === "time" ? new Date(x * 1000).toLocaleTimeString() : `step ${short(x)}`));
    }
    this.head.replaceChildren(...parts);
  }
}

// Series that differ only in "train" and "val" are read together: train_loss, loss/val.
function groupOf(name) {
  const rest = name.split(/[_/.\s-]+/).filter((part) => !HALVES.has(part.toLowerCase()));
  return rest.length && rest.join("") ? rest.join("_") : name;
}

// What people look at first comes first.
function rank(key) {
  return /loss|error/i.test(key) ? 0 : /acc|score|auc|f1/i.test(key) ? 1 : 2;
}

function half(name) {
  return name.split(/[_/.\s-]+/).find((part) => HALVES.has(part.toLowerCase())) ?? name;
}

// A series as sorted xs and ys; what is not finite becomes a gap, and infinities are kept for a mark at the edge.
function points({ steps, times, values, count }, byTime) {
  const spread = values.length > 1 ? (count - 1) / (values.length - 1) : 1;
  const stepped = steps.every((step) => step !== null);
  const order = values.map((value, i) => [byTime ? times[i] : stepped ? steps[i] : i * spread, value]);
  order.sort((a, b) => a[0] - b[0]);
  return {
    xs: order.map(([x]) => x),
    ys: order.map(([, y]) => (typeof y === "number" ? y : null)),
    nan: values.filter((value) => value === "NaN").length,
    infinite: order.filter(([, y]) => y === "Infinity" || y === "-Infinity").map(([x, y]) => [x, y === "Infinity"]),
  };
}

function align(tables) {
  return tables.length > 1 ? uPlot.join(tables) : tables[0];
}

function note(curves, log, asked) {
  const parts = [];
  const nan = curves.reduce((sum, curve) => sum + curve.nan, 0);
  const infinite = curves.reduce((sum, curve) => sum + curve.infinite.length, 0);
  if (nan) parts.push(`${nan} NaN left out`);
  if (infinite) parts.push(`${infinite} infinite marked at the edge`);
  const hidden = log ? curves.reduce((sum, curve) => sum + curve.ys.filter((y) => y !== null && y <= 0).length, 0) : 0;
  if (hidden) parts.push(`${hidden} not above zero left out`);
  if (asked && !log) parts.push("nothing above zero: linear scale");
  return parts.join(" · ");
}

// Triangles at the upper or lower edge where a value was infinite.
function marks(u, infinite) {
  const { ctx, bbox } = u;
  const size = 5 * devicePixelRatio;
  infinite?.forEach((places, i) => {
    ctx.fillStyle = colour(i);
    for (const [x, up] of places) {
      const left = u.valToPos(x, "x", true);
      const edge = up ? bbox.top : bbox.top + bbox.height;
      if (left < bbox.left || left > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(left, edge);
      ctx.lineTo(left - size, edge + (up ? size * 1.6 : -size * 1.6));
      ctx.lineTo(left + size, edge + (up ? size * 1.6 : -size * 1.6));
      ctx.fill();
    }
  });
}

function range(low, high) {
  if (low === null || low === undefined) return [0, 1];
  if (low === high) return [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const room = (high - low) * 0.06;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

function short(value) {
  if (typeof value !== "number") return { NaN: "NaN", Infinity: "∞", "-Infinity": "−∞" }[value] ?? String(value);
  const size = Math.abs(value);
  const text = size && (size < 1e-3 || size >= 1e6) ? value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e") : String(+value.toPrecision(4));
  return text.replace(/^-/, "−");
}

function colour(place) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--c${(place % COLOURS) + 1}`).trim();
}

function theme() {
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
