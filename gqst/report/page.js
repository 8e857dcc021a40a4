"use strict";
(() => {
  const viewer = document.querySelector(".viewer");
  if (!viewer) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector) => viewer.querySelector(selector);
  const [under, over] = [find(".under"), find(".over")];
  const [split, round, before, thumbs] = [find(".split"), find(".round"), find(".before"), find(".thumbs")];
  let row = 0;

  const show = () => {
    const at = Number(round.value);
    const left = data.lefts[before.value];
    const step = data.steps[at].toLocaleString("en");
    over.src = data.fakes[at][row];
    over.alt = `Picture ${row + 1} at step ${data.steps[at]}`;
    under.src = left ? left.pictures[row] : over.src;
    under.alt = left ? `${left.name}, picture ${row + 1}` : "";
    find(".compare").classList.toggle("single", !left);
    find(".left").textContent = left ? left.name : "";
    find(".right").textContent = `step ${step}`;
    find("output").textContent = `step ${step}${data.steps[at] === data.best ? ", best" : ""}`;
    round.setAttribute("aria-valuetext", `step ${step}`);
    thumbs.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", String(i === row)));
  };

  data.fakes[data.fakes.length - 1].forEach((uri, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Picture ${i + 1}`);
    const image = document.createElement("img");
    image.src = uri;
    image.alt = "";
    button.append(image);
    button.addEventListener("click", () => { row = i; show(); });
    thumbs.append(button);
  });
  data.lefts.forEach((left, i) => before.append(new Option(left.name, String(i))));
  thumbs.hidden = data.fakes[0].length < 2;
  before.closest("label").hidden = data.lefts.length < 2;
  round.max = String(data.steps.length - 1);
  const best = data.steps.indexOf(data.best);
  round.value = String(best < 0 ? data.steps.length - 1 : best);
  round.closest("label").hidden = data.steps.length < 2;
  // At its own size, where it is large enough to be seen.
  over.addEventListener("load", () => {
    find(".compare").style.maxWidth = `${Math.min(Math.max(over.naturalWidth, 384), 768)}px`;
  });
  split.addEventListener("input", () => find(".compare").style.setProperty("--split", `${split.value}%`));
  round.addEventListener("input", show);
  before.addEventListener("change", show);
  show();
})();
