
// Picks: what bench.analysis.picks.pick does, for limits that are typed.
const pick = (models, limits, margin) => {
  const keep = models.filter(each => limits.every(([key, most]) => (each[key] || Infinity) <= most * (1 + 1e-9)));
  const best = Math.max(...keep.map(each => each.validation));
  const alike = keep.filter(each => each.validation >= best - margin - 1e-9);
  const size = each => each.parameters || Number.MAX_VALUE;
  alike.sort((a, b) => size(a) - size(b) || b.validation - a.validation);
  return { alike, keep };
};

(() => {
  const data = document.getElementById("picks-data");
  if (!data) return;
  const devices = JSON.parse(data.textContent);
  document.querySelectorAll("form.picks").forEach((form, number) => {
    const { margin, models } = devices[number], said = form.querySelector("output"), boxes = [...form.querySelectorAll("input")];
    const [free] = pick(models, [], margin).alike;
    const needs = (model, keys) => boxes.filter(box => model[box.name] && keys.includes(box.name))
      .map(box => `${model[box.name].toLocaleString("en", { maximumSignificantDigits: 3 + 12 * (box.name === "parameters") })} ${box.dataset.words}`).join(", ");

    function show() {
      const limits = boxes.map(box => [box.name, box.valueAsNumber]).filter(([, most]) => most > 0);
      const { alike: [first, ...others], keep } = pick(models, limits, margin);
      said.textContent = !limits.length ? "Type a limit or several; the pick keeps all of them." : !first ? "No model keeps these limits."
        : `${first.name} (${first.code}): ${(100 * first.accuracy).toFixed(2)}% on test; needs up to ${needs(first, boxes.map(box => box.name))}`
          + (others.length ? `; as good on validation, and no smaller: ${others.slice(0, 2).map(each => each.name).join("; ")}` : "")
          + `. ${keep.length} of ${models.length} models keep the limits`
          + (keep.includes(free) ? "." : `; not ${free.name}, which needs up to ${needs(free, limits.filter(([key, most]) => !(free[key] <= most)).map(([key]) => key))}.`);
    }

    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("input", show);
    form.addEventListener("reset", () => setTimeout(show));
    form.hidden = false;
    show();
  });
})();
