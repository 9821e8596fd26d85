// Pages with runs: filters that apply at once, rows that stay current.
import "./page.js";
import { Live, refresh } from "./live.js";

const filters = document.querySelector("[data-filters]");
filters?.addEventListener("change", () => filters.requestSubmit());
filters?.addEventListener("submit", () => {
  // Leave empty fields out of the address.
  for (const field of filters.elements) if (field.name) field.disabled = !field.value.trim();
});
// A page brought back by the back button still has them disabled.
addEventListener("pageshow", () => {
  for (const field of filters?.elements ?? []) field.disabled = false;
});

const part = document.querySelector("[data-stream]");
if (part) new Live(() => part.dataset.stream, { run: refresh });
