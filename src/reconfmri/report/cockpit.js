"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const choices = [...document.querySelectorAll("button.rate")];
  const boxes = [...document.querySelectorAll("#artefacts input")];
  let rater = "", order = [], place = 0, said = {};

  // A name always gives the same order: FNV-1a seeds mulberry32, which shuffles (Fisher and Yates).
  const seedOf = (text) => {
    let hash = 2166136261;
    for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 16777619);
    return hash >>> 0;
  };
  const shuffled = (count, seed) => {
    let state = seed;
    const random = () => {
      state = (state + 0x6d2b79f5) | 0;
      let value = Math.imul(state ^ (state >>> 15), 1 | state);
      value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
      return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
    };
    const items = [...Array(count).keys()];
    for (let last = count - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1));
      [items[last], items[other]] = [items[other], items[last]];
    }
    return items;
  };

  const shelf = () => `reconfmri ratings\n${page.study}\n${rater.toLowerCase()}`;
  const keep = () => {
    try {
      localStorage.setItem(shelf(), JSON.stringify({ rater, place, said }));
    } catch {
      at("progress").textContent = "This browser keeps nothing: save the ratings before you leave the page.";
    }
  };
  const kept = () => {
    try {
      return JSON.parse(localStorage.getItem(shelf())) || {};
    } catch {
      return {};
    }
  };
  const keyOf = (scan) => JSON.stringify([scan.participant_id, scan.session_id, scan.task, scan.run]);
  const here = () => page.scans[order[place]];
  const entry = () => (said[keyOf(here())] ||= { rating: "", artifacts: [], notes: "", time: "", pictures: "" });
  // A rating is of the pictures that it was made on: where they are others now, the scan is to be seen again.
  const changed = (scan) => {
    const mine = said[keyOf(scan)];
    return Boolean(mine && mine.rating && mine.pictures !== scan.digest);
  };
  const rated = (scan) => Boolean((said[keyOf(scan)] || {}).rating) && !changed(scan);
  const make = (tag, text, name = "") => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  };

  const showPictures = (scan) => {
    at("pictures").replaceChildren(...scan.pictures.map((picture) => {
      const figure = document.createElement("figure"), link = document.createElement("a");
      const image = document.createElement("img");
      image.src = link.href = picture.address;
      image.alt = picture.alt;
      link.append(image);
      figure.append(make("figcaption", picture.title), link);
      return figure;
    }));
    if (!scan.pictures.length) at("pictures").append(make("p", "No picture: the scan was left out before.", "none"));
  };
  const showNumbers = (scan) => {
    at("numbers").replaceChildren(...scan.numbers.map((number) => {
      const row = document.createElement("tr"), name = make("th", number.name);
      name.scope = "row";
      row.append(name, make("td", number.text, number.bad ? "n bad" : "n"), make("td", number.limit, "n"));
      return row;
    }));
  };
  const showState = () => {
    const done = page.scans.filter(rated).length, mine = entry();
    at("progress").textContent = `${rater}: ${done} of ${page.scans.length} rated`;
    for (const button of choices) {
      button.setAttribute("aria-pressed", String(rated(here()) && button.dataset.rating === mine.rating));
    }
    at("list").replaceChildren(...order.map((index, number) => {
      const item = document.createElement("li"), button = make("button", page.scans[index].label);
      button.type = "button";
      if (number === place) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => move(number - place));
      const rating = (said[keyOf(page.scans[index])] || {}).rating;
      const again = changed(page.scans[index]) ? ", on other pictures: look again" : "";
      const word = rating ? ` ${page.ratings[rating]}${again}` : " not rated";
      item.append(button, make("span", word, again ? "bad" : rating ? "" : "note"));
      return item;
    }));
  };
  const show = (focus = true) => {
    const scan = here(), mine = entry();
    at("scan").textContent = `Scan ${place + 1} of ${order.length}: ${scan.label}`;
    const again = "The pictures changed since this scan was rated: rate it again.";
    at("flags").textContent = [...(changed(scan) ? [again] : []), ...scan.flags].join(" ");
    showPictures(scan);
    showNumbers(scan);
    for (const box of boxes) box.checked = mine.artifacts.includes(box.value);
    at("notes").value = mine.notes;
    showState();
    if (focus) at("scan").focus();
  };
  const move = (by) => {
    place = Math.min(Math.max(place + by, 0), order.length - 1);
    keep();
    show();
  };
  const change = (values) => {
    Object.assign(entry(), values, { time: new Date().toISOString() });
    if (values.rating) {
      entry().pictures = here().digest;
      at("flags").textContent = here().flags.join(" ");
    }
    keep();
    showState();
  };
  const nextUnrated = () => {
    const count = order.length;
    for (let step = 1; step <= count; step++) {
      const next = (place + step) % count;
      if (!rated(page.scans[order[next]])) return move(next - place);
    }
    at("progress").textContent = `${rater}: every scan is rated`;
  };

  const begin = (name, found) => {
    rater = name.trim().replace(/\s+/g, " ");
    if (!rater) return;
    order = shuffled(page.scans.length, seedOf(rater.toLowerCase()));
    const before = kept();
    said = { ...(before.said || {}), ...(found || {}) };
    place = Math.min(Math.max(before.place || 0, 0), order.length - 1);
    at("start").hidden = true;
    at("rating").hidden = false;
    keep();
    show();
  };
  const exported = () => ({
    format: page.format,
    study: page.study,
    rater,
    saved: new Date().toISOString(),
    order: order.map((index) => page.scans[index].label),
    ratings: page.scans.filter((scan) => said[keyOf(scan)]).map((scan) => {
      const { participant_id, session_id, task, run } = scan;
      return { participant_id, session_id, task, run, ...said[keyOf(scan)] };
    }),
  });
  const save = () => {
    const text = JSON.stringify(exported(), null, 1) + "\n", link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `ratings_${rater.replace(/[^\p{L}\p{N}-]+/gu, "-")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    at("progress").textContent = `${rater}: saved as ${link.download}`;
  };
  const load = async (file) => {
    try {
      const found = JSON.parse(await file.text());
      if (found.format !== page.format || found.study !== page.study) throw new Error("another study");
      begin(found.rater, Object.fromEntries(found.ratings.map((row) => [keyOf(row), {
        rating: row.rating, artifacts: row.artifacts, notes: row.notes, time: row.time,
        pictures: row.pictures || "",
      }])));
    } catch {
      at("load").setCustomValidity("This is no file of ratings of this study.");
      at("load").reportValidity();
    }
  };

  at("start").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(at("rater").value);
  });
  at("load").addEventListener("change", (event) => load(event.target.files[0]));
  for (const button of choices) button.addEventListener("click", () => change({ rating: button.dataset.rating }));
  for (const box of boxes) {
    box.addEventListener("change", () =>
      change({ artifacts: boxes.filter((each) => each.checked).map((each) => each.value) }));
  }
  at("notes").addEventListener("input", () => change({ notes: at("notes").value }));
  at("before").addEventListener("click", () => move(-1));
  at("after").addEventListener("click", () => move(1));
  at("unrated").addEventListener("click", nextUnrated);
  at("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("textarea, input:not([type=checkbox])");
    if (at("rating").hidden || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = choices["123".indexOf(event.key)];
    if (event.key.length === 1 && button) change({ rating: button.dataset.rating });
    else if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "ArrowRight") move(1);
    else return;
    event.preventDefault();
  });
})();
