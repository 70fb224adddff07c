"use strict";
// What the page holds, sorted, filtered and saved: nothing is loaded or sent. The page is whole without it.
(() => {
  const FILTER_FROM = 12; // rows
  const make = (tag, text, name = "") => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const button = (text, label, act) => {
    const made = make("button", text, "tool");
    made.type = "button";
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };
  const save = (content, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const textOf = (cell) => cell.innerText.replace(/\s+/g, " ").replaceAll("\u2212", "-").trim();
  const counts = {};
  const nameOf = (element) => {
    const section = element.closest("section"), stem = section ? section.id : "front";
    counts[stem] = (counts[stem] || 0) + 1;
    return counts[stem] === 1 ? stem : `${stem}_${counts[stem]}`;
  };
  const titleOf = (element) => {
    const section = element.closest("section");
    return section ? section.querySelector("h2").textContent : document.title;
  };

  // Numbers by size, with what comes after them left aside; all else as text, names with digits by their digits.
  const numberIn = (text) => parseFloat(text.replace(/^[<>≥≤]\s*/, "").replaceAll(",", ""));
  const sort = (table, place, down) => {
    const body = table.tBodies[0], rows = [...body.rows];
    const keys = new Map(rows.map((row) => [row, textOf(row.cells[place])]));
    const filled = [...keys.values()].filter((text) => text && text !== "–");
    const numeric = filled.every((text) => !Number.isNaN(numberIn(text)));
    const empty = (row) => !keys.get(row) || keys.get(row) === "–";
    const compare = (one, other) => {
      if (empty(one) || empty(other)) return empty(one) - empty(other);
      const order = numeric
        ? numberIn(keys.get(one)) - numberIn(keys.get(other))
        : keys.get(one).localeCompare(keys.get(other), undefined, { numeric: true });
      return down ? -order : order;
    };
    body.append(...rows.sort(compare));
  };
  // Rows that lean on the row above them stay in their order.
  const isPlain = (table) => table.tBodies.length === 1 && table.tHead && table.tHead.rows.length === 1 &&
    [...table.tBodies[0].rows].every((row) => row.cells.length === table.tHead.rows[0].cells.length &&
      textOf(row.cells[0]) !== "" && [...row.cells].every((cell) => cell.colSpan === 1 && cell.rowSpan === 1));
  const sortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((cell, place) => {
      if (!textOf(cell)) return;
      const label = textOf(cell), sorter = make("button", "", "sorter");
      sorter.type = "button";
      sorter.append(...cell.childNodes);
      sorter.title = `Sort by ${label}`;
      cell.append(sorter);
      sorter.addEventListener("click", () => {
        const down = cell.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, place, down);
      });
    });
  };
  const filter = (table, tools, title) => {
    const box = document.createElement("input"), told = make("span", "", "note");
    box.type = "search";
    box.placeholder = "Filter rows";
    box.setAttribute("aria-label", `Filter rows: ${title}`);
    told.setAttribute("role", "status");
    box.addEventListener("input", () => {
      const asked = box.value.toLowerCase(), rows = [...table.tBodies[0].rows];
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(asked);
      told.textContent = asked ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
    });
    tools.append(box, told);
  };
  const tsv = (table) => [...table.rows].filter((row) => !row.hidden)
    .map((row) => [...row.cells].flatMap((cell) => [textOf(cell), ...Array(cell.colSpan - 1).fill("")]).join("\t"))
    .join("\n") + "\n";

  // A PNG says its resolution in a chunk pHYs (dots per metre), right after the header (33 bytes).
  const CRC = [...Array(256).keys()].map((start) => {
    let value = start;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
    return value >>> 0;
  });
  const withResolution = (bytes, dpi) => {
    const chunk = new Uint8Array(21), view = new DataView(chunk.buffer), perMetre = Math.round(dpi / 0.0254);
    view.setUint32(0, 9);
    chunk.set([0x70, 0x48, 0x59, 0x73], 4);
    view.setUint32(8, perMetre);
    view.setUint32(12, perMetre);
    chunk[16] = 1;
    let crc = 0xffffffff;
    for (const byte of chunk.subarray(4, 17)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
    view.setUint32(17, (crc ^ 0xffffffff) >>> 0);
    return new Blob([bytes.subarray(0, 33), chunk, bytes.subarray(33)], { type: "image/png" });
  };
  const bytesOf = (uri) => Uint8Array.from(atob(uri.split(",")[1]), (letter) => letter.charCodeAt(0));
  const savePng = async (image, name) => {
    const drawn = new Image();
    drawn.src = image.src;
    await drawn.decode();
    const canvas = document.createElement("canvas"), scale = 300 / 96;
    canvas.width = Math.round(drawn.naturalWidth * scale);
    canvas.height = Math.round(drawn.naturalHeight * scale);
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(async (blob) => {
      save(withResolution(new Uint8Array(await blob.arrayBuffer()), 300), `${name}.png`);
    }, "image/png");
  };

  for (const table of document.querySelectorAll("main table")) {
    if (!table.tHead) continue;
    const name = nameOf(table), tools = make("p", "", "tools"), title = titleOf(table);
    if (isPlain(table)) {
      sortable(table);
      if (table.tBodies[0].rows.length >= FILTER_FROM) filter(table, tools, title);
    }
    tools.append(button("TSV", `Save as TSV: ${title}`, () => save(new Blob([tsv(table)], { type: "text/tab-separated-values" }), `${name}.tsv`)));
    (table.closest(".scroll") || table).after(tools);
  }
  for (const image of document.querySelectorAll("main figure > .scroll > img")) {
    const name = nameOf(image), tools = make("p", "", "tools"), vector = image.src.startsWith("data:image/svg+xml");
    const what = image.alt.split(".")[0];
    if (vector) {
      tools.append(
        button("SVG", `Save as SVG: ${what}`, () => save(new Blob([bytesOf(image.src)], { type: "image/svg+xml" }), `${name}.svg`)),
        button("PNG, 300 dpi", `Save as PNG, 300 dpi: ${what}`, () => savePng(image, name)),
      );
    } else {
      tools.append(button("PNG", `Save as PNG: ${what}`, () => save(new Blob([bytesOf(image.src)], { type: "image/png" }), `${name}.png`)));
    }
    image.closest("figure").append(tools);
  }
  const methods = document.querySelector(".method");
  if (methods) {
    const tools = make("p", "", "tools"), told = make("span", "", "note");
    told.setAttribute("role", "status");
    const text = () => [...methods.children].map((part) => part.textContent.trim()).join("\n\n") + "\n";
    tools.append(button("Copy", "Copy the methods", async () => {
      try {
        await navigator.clipboard.writeText(text());
        told.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(methods);
        told.textContent = "this browser does not copy for a page: the text is selected, copy it by hand";
      }
    }), button("Text", "Save the methods as text", () => save(new Blob([text()], { type: "text/plain" }), "methods.txt")), told);
    methods.before(tools);
  }
  for (const listed of document.querySelectorAll("pre.bibtex")) {
    const tools = make("p", "", "tools");
    tools.append(button(".bib", "Save the references as BibTeX", () => save(new Blob([listed.textContent], { type: "text/x-bibtex" }), "references.bib")));
    listed.closest("details").before(tools);
  }
})();
