"use strict";
// Filters of the image grid: which set, which category, which outcome.
for (const grid of document.querySelectorAll("section.grid")) {
  const chosen = (name) => { const select = grid.querySelector(name); return select ? select.value : ""; };
  const cards = [...grid.querySelectorAll(".card")].map((card) => ({
    card, sets: card.dataset.sets.split(" "), category: card.dataset.category,
    wrong: JSON.parse(card.dataset.wrong), unread: "unread" in card.dataset,
  }));
  const show = () => {
    const set = chosen(".by-set"), category = chosen(".by-category"), field = chosen(".by-field");
    let count = 0;
    for (const one of cards) {
      const outcome = field === "" || (field === "-unread" ? one.unread
        : field === "-right" ? one.wrong.length === 0 : !one.unread && one.wrong.includes(field));
      const visible = (set === "" || one.sets.includes(set)) && (category === "" || one.category === category) && outcome;
      one.card.hidden = !visible;
      count += visible;
    }
    grid.querySelector(".shown").textContent = count === 1 ? "1 image" : `${count} images`;
  };
  for (const select of grid.querySelectorAll("select")) select.addEventListener("change", show);
  show();
}
// The step slider of the examples.
for (const block of document.querySelectorAll(".examples")) {
  const steps = block.dataset.steps.split(" ");
  const slider = block.querySelector(".step");
  slider.addEventListener("input", () => {
    const step = steps[slider.value];
    block.querySelector("output").textContent = step;
    for (const answer of block.querySelectorAll(".answer")) answer.hidden = answer.dataset.step !== step;
  });
}
// On paper everything that is folded is open.
addEventListener("beforeprint", () => { for (const folded of document.querySelectorAll("details")) folded.open = true; });
