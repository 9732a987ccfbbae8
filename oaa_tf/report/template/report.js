"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

function setUpChart(svg) {
  const { x, range, box, lines } = JSON.parse(svg.dataset.chart);
  const readout = svg.parentElement.querySelector(".readout");
  const cursor = svg.querySelector(".cursor");
  const places = [...new Set(lines.flatMap((line) => line.points.map(([at]) => at)))].sort((a, b) => a - b);
  let current = places.length;

  function show(index) {
    current = Math.max(0, Math.min(places.length - 1, index));
    const at = places[current];
    const across = box.left + (at - range[0]) / (range[1] - range[0] || 1) * (box.right - box.left);
    cursor.setAttribute("x1", across);
    cursor.setAttribute("x2", across);
    cursor.setAttribute("visibility", "visible");
    const values = lines.filter((line) => line.points.length).map((line) => {
      const nearest = line.points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
      return `${lines.length > 1 ? line.name + " " : ""}${nearest[1].toFixed(3)}`;
    });
    readout.textContent = `${x} ${+at.toPrecision(4)}: ${values.join(", ")}`;
  }

  function hide() {
    cursor.setAttribute("visibility", "hidden");
    readout.textContent = "\u00a0";
  }

  svg.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    const across = (event.clientX - bounds.left) / bounds.width * box.width;
    const at = range[0] + (across - box.left) / (box.right - box.left) * (range[1] - range[0]);
    show(places.reduce((best, place, i) => (Math.abs(place - at) < Math.abs(places[best] - at) ? i : best), 0));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(current + step);
  });
}

function setUpReplay(player, pairs) {
  const slider = player.querySelector("input[type=range]");
  const play = player.querySelector(".play");
  const moment = player.querySelector(".moment");
  const scores = player.querySelector(".scores");
  const panels = Object.fromEntries([...player.querySelectorAll("[data-panel]")].map((one) => [one.dataset.panel, one]));
  let pair;
  let timer;

  function drawScores() {
    const last = Math.max(1, pair.steps.length - 1);
    const path = (from, to) =>
      pair.scores.slice(from, to).map((score, i) => `${i ? "L" : "M"}${(from + i) / last * 600} ${57 - score * 54}`).join("");
    const first = pair.updates.findIndex((count) => count > 0);
    const start = first < 0 ? pair.steps.length : first;
    scores.innerHTML = `<path class="before" d="${path(0, start + 1)}"/><path d="${path(start, pair.steps.length)}"/>`
      + '<line y1="0" y2="60"/>';
  }

  function show() {
    const i = Number(slider.value);
    for (const kind of ["attention", "cumulative"]) panels[kind].firstElementChild.src = pair[kind][i];
    const updates = pair.updates[i];
    const accumulated = updates ? `accumulated ${updates} time${updates === 1 ? "" : "s"}`
      : pair.waiting[i] ? "accumulation has not begun" : "the gate has not let it through yet";
    const when = `epoch ${pair.epochs[i].toFixed(1)}, step ${pair.steps[i].toLocaleString("en")}`;
    moment.textContent = `${when} · score ${pair.scores[i].toFixed(2)} · ${accumulated}`;
    slider.setAttribute("aria-valuetext", moment.textContent);
    const across = i / Math.max(1, pair.steps.length - 1) * 600;
    scores.lastElementChild.setAttribute("x1", across);
    scores.lastElementChild.setAttribute("x2", across);
  }

  function choose(index) {
    pair = pairs[index];
    const what = `${pair.name} in ${pair.image}`;
    for (const panel of Object.values(panels)) {
      panel.style.cssText = `--w:${pair.width};--h:${pair.height};--photo:url(${pair.photo})`;
    }
    panels.photo.setAttribute("aria-label", `Photograph ${pair.image}`);
    panels.attention.setAttribute("aria-label", `Attention to ${what} at the chosen moment`);
    panels.cumulative.setAttribute("aria-label", `Attention to ${what}, accumulated until then`);
    slider.max = pair.steps.length - 1;
    drawScores();
    show();
  }

  function stop() {
    clearInterval(timer);
    timer = undefined;
    play.textContent = "▶";
    play.setAttribute("aria-label", "Play");
  }

  const list = player.querySelector(".pairs");
  pairs.forEach((one, index) => {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "pair", checked: !index });
    radio.addEventListener("change", () => choose(index));
    const words = document.createElement("span");
    const image = document.createElement("small");
    words.textContent = one.name;
    image.textContent = one.image;
    words.append(image);
    label.append(radio, Object.assign(document.createElement("img"), { src: one.photo, alt: "" }), words);
    list.append(label);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
    timer = setInterval(() => {
      if (slider.value === slider.max) return stop();
      slider.value = Number(slider.value) + 1;
      show();
    }, 350);
    show();
  });
  choose(0);
  // The end is what the later stages get.
  slider.value = slider.max;
  show();
}

function setUpGallery(controls) {
  const rows = document.getElementById("rows");
  const articles = [...rows.children];
  const ious = new Map(articles.map((one) => [one, JSON.parse(one.dataset.ious)]));
  const count = controls.querySelector(".count");
  const none = document.querySelector(".none");
  const dialog = document.getElementById("enlarged");

  function update() {
    const { class: label, split, order } = Object.fromEntries(new FormData(controls));
    let shown = 0;
    for (const one of articles) {
      one.hidden = (label !== "" && !one.dataset.classes.split(" ").includes(label))
        || (split !== "" && one.dataset.split !== split) || (order !== "" && !(order in ious.get(one)));
      shown += !one.hidden;
    }
    const sorted = order ? [...articles].sort((a, b) => (ious.get(a)[order] ?? -1) - (ious.get(b)[order] ?? -1)) : articles;
    rows.append(...sorted);
    count.textContent = `${shown} of ${articles.length} images`;
    none.hidden = shown > 0;
  }

  function enlarge(article) {
    const copy = article.cloneNode(true);
    copy.querySelector("h3").removeAttribute("id");
    const close = copy.querySelector("button");
    close.textContent = "Close";
    close.removeAttribute("aria-label");
    close.addEventListener("click", () => dialog.close());
    copy.removeAttribute("tabindex");
    copy.removeAttribute("aria-labelledby");
    dialog.replaceChildren(copy);
    dialog.showModal();
    close.focus();
    dialog.onclose = () => article.focus();
  }

  controls.addEventListener("change", update);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.elements.opacity.addEventListener("input", (event) => {
    rows.style.setProperty("--opacity", event.target.value / 100);
    dialog.style.setProperty("--opacity", event.target.value / 100);
  });
  rows.addEventListener("click", (event) => {
    if (event.target.closest(".enlarge")) enlarge(event.target.closest("article"));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, dialog")) return;
    const article = document.activeElement.closest("article");
    if (event.key === "Enter" && article === document.activeElement) return enlarge(article);
    const direction = { j: 1, k: -1 }[event.key];
    if (!direction) return;
    const visible = [...rows.children].filter((one) => !one.hidden);
    const next = visible[article ? visible.indexOf(article) + direction : 0];
    if (next) {
      next.focus({ preventScroll: true });
      next.scrollIntoView({ block: "nearest" });
    }
  });
  update();
}

document.querySelectorAll("svg[data-chart]").forEach(setUpChart);
if (data.replay.length) setUpReplay(document.getElementById("replay-player"), data.replay);
const controls = document.getElementById("controls");
if (controls) setUpGallery(controls);
