
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
    const { margin, models } = devices[number], said = form.querySelector("output");

    function show() {
      const limits = [...form.querySelectorAll("input")].map(box => [box.name, box.valueAsNumber]).filter(([, most]) => most > 0);
      const { alike: [first, ...others], keep } = pick(models, limits, margin);
      said.textContent = !limits.length ? "Type a limit or several; the pick keeps all of them." : !first ? "No model keeps these limits."
        : `${first.name} (${first.code}): ${(100 * first.accuracy).toFixed(2)}% on test`
          + (others.length ? `; as good on validation, and no smaller: ${others.slice(0, 2).map(each => each.name).join("; ")}` : "")
          + `. ${keep.length} of ${models.length} models keep the limits.`;
    }

    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("input", show);
    form.addEventListener("reset", () => setTimeout(show));
    form.hidden = false;
    show();
  });
})();
