"use strict";
/* What the reader can do: choose round, threshold and masks, filter and sort the gallery, enlarge. All data are in the
   page (`responses.js`); nothing is fetched. */
(() => {
  /* ---------- light and dark ---------- */
  const root = document.documentElement;
  const themeButton = one("#theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches;
  }
  function showTheme() {
    themeButton.textContent = isDark() ? "Light" : "Dark";
  }
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  showTheme();

  const images = store.images.map((_, index) => new ResponseImage(index));
  const percent = (share) => (share === null ? "–" : (100 * share).toFixed(1));

  /* ---------- a card: one image with its own sliders ---------- */
  class Card {
    constructor(element) {
      this.element = element;
      this.image = images[Number(element.dataset.image)];
      this.round = one(".round", element);
      this.threshold = one(".threshold", element);
      this.pending = false;
      for (const slider of [this.round, this.threshold]) slider?.addEventListener("input", () => this.update());
    }

    get where() {
      return { round: Number(this.round?.value ?? 0), threshold: Number(this.threshold.value) / 100 };
    }

    showValues() {
      const { round, threshold } = this.where;
      if (this.round) {
        const name = round ? `round ${round}` : "round 0 (plain CAM)";
        this.round.setAttribute("aria-valuetext", `${name} of ${this.round.max}`);
        one(".round-value", this.element).textContent = String(round);
        one(".ours-name", this.element).textContent = round ? `round ${round}` : "plain CAM";
      }
      this.threshold.setAttribute("aria-valuetext", threshold.toFixed(2));
      one(".threshold-value", this.element).textContent = threshold.toFixed(2);
    }

    /* At most one drawing per frame, however fast a slider moves. */
    update() {
      this.showValues();
      if (this.pending) return;
      this.pending = true;
      requestAnimationFrame(async () => {
        this.pending = false;
        await this.draw();
      });
    }

    async draw() {
      const { image, element } = this;
      await image.load();
      const { round, threshold } = this.where;
      for (const [name, index] of [["plain", 0], ["ours", round]]) {
        const canvas = one(`canvas.${name}`, element);
        if (!canvas) continue;
        let labels = image.segmented(index, threshold);
        if (settings.draw === "response") labels = image.drawResponse(canvas, index, threshold);
        else image.drawMask(canvas, labels);
        const score = image.iou(labels);
        const output = one(`.${name}-iou`, element);
        if (output) output.textContent = percent(score);
        const nameOfRound = index ? `Round ${index}` : "Plain CAM";
        const empty = labels.some((label) => label) ? "" : ", only background";
        const scored = empty + (score === null ? "" : `, IoU ${percent(score)} per cent`);
        canvas.setAttribute("aria-label", `${nameOfRound} of ${element.dataset.name} at threshold ${threshold.toFixed(2)}${scored}`);
      }
      const truth = one("canvas.truth", element);
      if (truth && image.truth) image.drawMask(truth, image.truth);
      await this.drawChosenMask();
      element.dataset.drawn = "true";
    }

    async drawChosenMask() {
      const canvas = one("canvas.mask", this.element);
      if (!canvas) return;
      one(".mask-name", this.element).textContent = settings.mask;
      const link = one(".mask-file", this.element);
      const file = this.image.data.files[settings.mask];
      if (link) link.hidden = !file;
      if (link && file) link.href = file;
      const labels = await this.image.mask(settings.mask);
      one(".mask-iou", this.element).textContent = percent(this.image.iou(labels));
      canvas.setAttribute("aria-label", `${labels ? "" : "No "}${settings.mask} of ${this.element.dataset.name}`);
      if (labels) {
        this.image.drawMask(canvas, labels);
        if (sayEmpty(canvas, labels)) canvas.setAttribute("aria-label", `Empty: ${canvas.getAttribute("aria-label")}`);
      } else canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    }
  }

  const cards = all(".card").map((element) => new Card(element));
  const cardOf = new Map(cards.map((card) => [card.element, card]));
  const visible = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => cardOf.get(entry.target).update()),
    { rootMargin: "300px" },
  );
  cards.forEach((card) => {
    card.showValues();
    visible.observe(card.element);
  });
  /* What is shown is drawn while nothing else is to do, so that a printed page has every map. */
  const idle = window.requestIdleCallback ?? ((task) => setTimeout(task, 30));
  let drawing = false;
  async function drawShown() {
    if (drawing) return;
    drawing = true;
    const next = () => cards.find((card) => !card.element.hidden && !card.element.dataset.drawn);
    for (let card = next(); card; card = next()) {
      await new Promise((done) => idle(done));
      if (!card.element.dataset.drawn) await card.draw();
    }
    drawing = false;
  }
  /* On paper nothing can be unfolded, so the numbers are. */
  const unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded.push(...all("details.numbers:not([open])"));
    unfolded.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => unfolded.splice(0).forEach((details) => (details.open = false)));
  const redraw = () => cards.filter((card) => card.element.dataset.drawn && !card.element.hidden).forEach((card) => card.update());

  /* ---------- the gallery: which images, in which order ---------- */
  const gallery = one("#gallery");
  if (gallery) {
    const STEP = 8;
    let most = STEP;
    const form = one("#gallery-form");
    const orders = {
      gain: (card) => -Number(card.dataset.gain || -9),
      loss: (card) => Number(card.dataset.gain || 9),
      best: (card) => -Number(card.dataset.iou || -9),
      worst: (card) => Number(card.dataset.iou || 9),
      doubt: (card) => Number(card.dataset.confidence || 9),
      disagreement: (card) => -Number(card.dataset.disagreement || -9),
      name: () => 0,
    };
    const apply = () => {
      const wanted = new FormData(form);
      const rank = orders[wanted.get("order") ?? "name"];
      const matches = cards
        .map((card) => card.element)
        .filter((card) => wanted.get("class") === "" || card.dataset.classes.split(" ").includes(wanted.get("class")))
        .filter((card) => Number(card.dataset.confidence || 0) * 100 <= Number(wanted.get("confidence") ?? 100))
        .filter((card) => Number(card.dataset.disagreement || 0) * 100 >= Number(wanted.get("disagreement") ?? 0))
        .filter((card) => !wanted.get("which") || "worst" in card.dataset)
        .filter((card) => !wanted.get("split") || card.dataset.split === wanted.get("split"))
        .sort((a, b) => rank(a) - rank(b) || Number(a.dataset.image) - Number(b.dataset.image));
      const shown = matches.slice(0, most);
      cards.forEach((card) => (card.element.hidden = !shown.includes(card.element)));
      shown.forEach((card) => gallery.append(card));
      const count = matches.length
        ? `${shown.length} of ${matches.length} images shown`
        : "No image is like this: choose another class, confidence or disagreement";
      one("#gallery-count").textContent = count;
      one("#gallery-printed").textContent = shown.length < matches.length ? `${count}; “Show all” on the page prints all of them.` : "";
      all(".more").forEach((button) => (button.hidden = shown.length === matches.length));
      drawShown();
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      if (["class", "which", "order", "split"].includes(event.target.name)) {
        most = STEP;
        apply();
      } else if (event.target.name === "draw") {
        settings.draw = event.target.value;
        redraw();
      } else if (event.target.name === "mask") {
        settings.mask = event.target.value;
        redraw();
      }
    });
    one("#opacity").addEventListener("input", (event) => {
      settings.opacity = Number(event.target.value) / 100;
      one("#opacity-value").textContent = `${event.target.value}%`;
      redraw();
    });
    for (const kind of ["confidence", "disagreement"]) {
      one(`#${kind}`)?.addEventListener("input", (event) => {
        const text = (Number(event.target.value) / 100).toFixed(2);
        one(`#${kind}-value`).textContent = text;
        event.target.setAttribute("aria-valuetext", text);
        apply();
      });
    }
    for (const kind of ["round", "threshold"]) {
      one(`#all-${kind}`)?.addEventListener("input", (event) => {
        const slider = event.target;
        const text = kind === "round" ? slider.value : (Number(slider.value) / 100).toFixed(2);
        one(`#all-${kind}-value`).textContent = text;
        slider.setAttribute("aria-valuetext", text);
        cards.forEach((card) => {
          card[kind].value = slider.value;
          card.showValues();
        });
        redraw();
      });
    }
    one("a.worst")?.addEventListener("click", () => {
      for (const [name, value] of [["class", ""], ["which", "first"], ["order", "doubt"]]) {
        one(`[name=${name}][value="${value}"]`, form).checked = true;
      }
      most = STEP;
      apply();
    });
    one("#more").addEventListener("click", () => {
      const before = most;
      most += 2 * STEP;
      apply();
      all(".card:not([hidden])", gallery)[before]?.querySelector("input")?.focus({ preventScroll: true });
    });
    one("#every").addEventListener("click", () => {
      most = cards.length;
      apply();
    });
    apply();
  }

  /* ---------- clusters of one class ---------- */
  const clusterForm = one("#cluster-form");
  if (clusterForm) {
    const apply = () => {
      const wanted = new FormData(clusterForm).get("parent");
      all(".parent").forEach((parent) => (parent.hidden = wanted !== "" && parent.dataset.parent !== wanted));
    };
    clusterForm.addEventListener("change", apply);
    apply();
  }

  /* ---------- the first examples, and Figure 7 ---------- */
  all("canvas[data-first]").forEach(async (canvas) => {
    const image = images[Number(canvas.dataset.image)];
    await image.load();
    if (canvas.dataset.first === "plain") image.drawResponse(canvas, 0, Number(one("#all-threshold").value) / 100);
    else image.drawMask(canvas, await image.mask(canvas.dataset.mask));
  });
  all("canvas[data-final]").forEach((canvas) =>
    idle(async () => {
      const image = images[Number(canvas.dataset.image)];
      await image.load();
      const labels = canvas.dataset.final === "truth" ? image.truth : await image.mask(canvas.dataset.final);
      if (labels) image.drawMask(canvas, labels);
    }),
  );

  /* ---------- enlarged ---------- */
  const large = one("#large");
  /* In how many columns all figures are largest and yet fit into the window; on a phone they are below each other. */
  function roomiest(figures) {
    if (innerWidth <= 700) return { columns: 1, height: innerHeight };
    const shown = one("canvas, img", figures[0]);
    const [width, height] = [shown.naturalWidth ?? shown.width, shown.naturalHeight ?? shown.height];
    const [gap, caption, frame] = [13, 52, 110];
    const fits = figures.map((_, place) => {
      const columns = place + 1;
      const rows = Math.ceil(figures.length / columns);
      const wide = (Math.min(0.96 * innerWidth, 1400) - 34) / columns - gap;
      return { columns, height: Math.floor(Math.min((0.94 * innerHeight - frame) / rows - caption, (wide * height) / width)) };
    });
    return fits.reduce((best, fit) => (fit.height > best.height ? fit : best));
  }

  function enlarge(within) {
    const panels = one(".panels", large);
    const figures = all("figure:not([hidden])", within);
    const { columns, height } = roomiest(figures);
    panels.style.setProperty("--panels", String(columns));
    panels.style.setProperty("--tallest", `${height}px`);
    panels.replaceChildren(
      ...figures.map((figure) => {
        const copy = document.createElement("figure");
        const shown = one("canvas, img", figure);
        const drawn = document.createElement("img");
        drawn.src = shown.tagName === "CANVAS" ? shown.toDataURL() : shown.src;
        drawn.alt = shown.getAttribute("aria-label") ?? shown.alt;
        const text = document.createElement("figcaption");
        text.textContent = one("figcaption", figure).innerText;
        copy.append(drawn, text);
        return copy;
      }),
    );
    large.showModal();
  }
  document.addEventListener("click", (event) => {
    if (event.target === large) large.close();
    const button = event.target.closest(".enlarge");
    const panels = event.target.closest("main .panels canvas, main .panels img")?.closest(".panels");
    if (button) enlarge(one(".panels", button.closest(".card")));
    else if (panels) enlarge(panels);
  });
})();
