// The page of one run: one stream feeds the status, the log, the curves and the files.
import "./page.js";
import { Charts } from "./charts.js";
import { Live, onRefresh, refresh } from "./live.js";
import { Logs } from "./log.js";

const page = document.getElementById("run");
const charts = new Charts(document.getElementById("charts"), page.dataset.metrics);
const logs = new Logs();

function showSeries() {
  const names = [...document.querySelectorAll("[data-series]")].map((node) => node.dataset.series);
  charts.show(names);
  document.getElementById("chart-tools").hidden = !names.length;
}

showSeries();
onRefresh(() => {
  showSeries();
  logs.listed();
});

new Live(() => `${page.dataset.stream}?offsets=${encodeURIComponent(JSON.stringify(logs.offsets()))}`, {
  // The first one tells what the page already shows; it is cheap to ask again, and right after a break.
  run: refresh,
  files: refresh,
  log: (event) => logs.add(event),
  metrics: ({ names }) => {
    charts.changed(names);
    refresh();
  },
});

const confirm = document.getElementById("confirm");
document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-cancel]");
  if (!form) return;
  event.preventDefault();
  confirm.returnValue = "no";
  confirm.showModal();
  confirm.onclose = async () => {
    if (confirm.returnValue !== "yes") return;
    form.querySelector("button").disabled = true;
    const answer = await fetch(form.action, { method: "POST" }).catch(() => null);
    if (!answer?.ok) form.querySelector("button").textContent = "Could not cancel: try again";
    await refresh();
  };
});
