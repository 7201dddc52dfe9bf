"use strict";
// The table of configurations: sort, filter, choose columns, download. Row i of the page holds values[key][i].
(() => {
  const table = document.getElementById("configurations");
  if (!table) return;
  const { always, columns, values } = JSON.parse(document.getElementById("values").textContent);
  const controls = document.getElementById("controls"), count = document.getElementById("count");
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const collator = new Intl.Collator(undefined, { numeric: true });
  const hiding = document.head.appendChild(document.createElement("style"));
  const boxes = [...controls.querySelectorAll("[data-column]")];
  const choices = [...controls.querySelectorAll("select[data-key]")];
  let order = rows.map((_, index) => index);

  function sort(number) {
    const { key, better } = number ? columns[number - 1] : { key: "label", better: "" };
    const now = heads[number].getAttribute("aria-sort");
    const up = now ? now === "descending" : better !== "higher";  // the best first
    const compare = number ? (a, b) => a - b : collator.compare;
    order.sort((a, b) => {
      const x = values[key][a], y = values[key][b];
      if (x === null || y === null) return (x === null) - (y === null);  // what wasn't measured stays last
      return up ? compare(x, y) : compare(y, x);
    });
    heads.forEach(head => head.removeAttribute("aria-sort"));
    heads[number].setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...order.map(index => rows[index]));
    filter();
  }

  function filter() {
    const words = controls.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const picked = choices.filter(box => box.value !== "").map(box => [values[box.dataset.key], box.value]);
    const { key, factor } = columns[controls.elements.measure.value - 1];
    const [least, most] = [controls.elements.least, controls.elements.most].map(box => box.valueAsNumber);
    const within = index => {
      if (Number.isNaN(least) && Number.isNaN(most)) return true;
      const value = values[key][index];
      if (value === null) return false;
      const shown = value * factor, slack = 1e-9 * Math.abs(shown);  // 0.57 * 100 is a little below 57
      return !(shown < least - slack) && !(shown > most + slack);
    };
    let shown = 0;
    const few = !document.getElementById("all-rows").checked && !words.length && !picked.length && Number.isNaN(least) && Number.isNaN(most);
    order.map(index => [rows[index], index]).forEach(([row, index]) => {
      const label = row.cells[0].textContent.toLowerCase();
      const fits = words.every(word => label.includes(word))
        && picked.every(([column, value]) => String(column[index]) === value) && within(index);
      row.hidden = !fits || (few && !values.named[index] && row.id !== location.hash.slice(1));
      shown += !row.hidden;
    });
    count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} configurations shown`;
  }

  function showColumns() {
    const hidden = boxes.filter(box => !box.checked).map(box => `#configurations tr > :nth-child(${+box.dataset.column + 1})`);
    hiding.textContent = hidden.length ? `${hidden.join(", ")} { display: none; }` : "";
    document.getElementById("columns-shown").textContent = `${boxes.length - hidden.length} of ${boxes.length}`;
  }

  // A spreadsheet would run text that begins like a formula; a leading apostrophe keeps it text.
  function cell(value) {
    if (value === null) return "";
    const runs = typeof value === "string" && /^'*\s*[=+\-@]|^'*[\t\r\n]/.test(value);
    const text = runs ? `'${value}` : String(value);
    return runs || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function download() {
    const chosen = boxes.filter(box => box.checked).map(box => columns[box.dataset.column - 1]);
    const keys = [...new Set([...always, ...chosen.flatMap(column => [column.key, ...column.beside])])];
    const shown = order.filter(index => !rows[index].hidden);
    const lines = [keys, ...shown.map(index => keys.map(key => values[key][index]))];
    const text = lines.map(line => line.map(cell).join(",") + "\r\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = "configurations.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function check(wanted) {
    boxes.forEach(box => { box.checked = wanted(columns[box.dataset.column - 1]); });
    showColumns();
  }

  heads.forEach((head, number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(number));
    head.append(button);
  });
  controls.addEventListener("submit", event => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(() => { filter(); showColumns(); }));
  controls.addEventListener("input", event => (event.target.dataset.column ? showColumns() : filter()));
  document.getElementById("all-columns").addEventListener("click", () => check(() => true));
  document.getElementById("result-columns").addEventListener("click", () => check(column => column.first));
  document.getElementById("download").addEventListener("click", download);
  const ends = document.getElementById("ends");
  ends.addEventListener("change", () => table.classList.toggle("short", !ends.checked));
  addEventListener("hashchange", () => { filter(); document.querySelector("tr:target")?.scrollIntoView({ block: "center" }); });
  table.classList.add("short");
  controls.hidden = count.hidden = false;
  filter();
  showColumns();
})();

// Paper has nothing to click on: what is folded is opened for it.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not([open])").forEach(part => { part.open = true; part.dataset.printed = ""; });
});
addEventListener("afterprint", () => {
  document.querySelectorAll("details[data-printed]").forEach(part => { part.open = false; delete part.dataset.printed; });
});
