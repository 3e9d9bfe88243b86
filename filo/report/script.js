// Conveniences only: without this script everything is there, in the order it was written.
"use strict";

function sortBy(table, column, heads) {
  const head = heads[column];
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
  const before = head.getAttribute("aria-sort");
  // numbers begin with the largest, names with A
  const rising = before ? before === "descending" : keyed.every(([key]) => typeof key !== "number");
  heads.forEach((each) => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  keyed.sort(([a], [b]) => compare(a, b, rising));
  body.append(...keyed.map(([, row]) => row));
}

// the number that a cell stands for, or else its text; null where there is nothing
function keyOf(cell) {
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  const text = cell.textContent.trim();
  return text === "" || text === "n/a" ? null : text;
}

function compare(a, b, rising) {
  if (a === null || b === null) return (a === null) - (b === null); // nothing comes last either way
  const numbers = typeof a === "number" && typeof b === "number";
  const order = numbers ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return rising ? order : -order;
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column, heads));
    head.append(button);
  });
}

const filter = document.querySelector(".filter");
if (filter) {
  const cards = [...document.querySelectorAll(".card")];
  const folds = document.querySelectorAll(".calm");
  const groups = new Set(cards.map((card) => card.closest(".group")));
  const names = cards.map((card) => card.querySelector(".name").textContent.toLowerCase());
  const apply = () => {
    const word = filter.elements.word.value.trim().toLowerCase();
    const wanted = filter.elements.verdict?.value;
    if (word || wanted) folds.forEach((each) => { each.open = true; });
    let shown = 0;
    cards.forEach((card, i) => {
      card.hidden = !(names[i].includes(word) && (!wanted || card.dataset.verdict === wanted));
      shown += !card.hidden;
    });
    groups.forEach((group) => { group.hidden = !group.querySelector(".card:not([hidden])"); });
    const counts = [shown, cards.length].map((count) => count.toLocaleString("en"));
    filter.querySelector("output").textContent = `${counts.join(" of ")} images`;
  };
  filter.hidden = false;
  filter.addEventListener("input", apply);
  filter.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

// on paper nothing can be unfolded; hundreds of images that seem normal stay away from it
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open], .calm)")];
  folded.forEach((each) => { each.open = true; });
});
addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }));
