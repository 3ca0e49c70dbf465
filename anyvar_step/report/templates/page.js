// Sorts a table by a column, and hides rows of samples whose names do not hold a text. The page shows all
// of it without this script.
for (const table of document.querySelectorAll("table.numbers")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number(row.cells[column].dataset.value ?? text.replaceAll(",", ""));
    return Number.isNaN(number) ? text : number;
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.ariaSort === "ascending";
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = descending ? "descending" : "ascending";
      const sign = descending ? -1 : 1;
      const rows = [...body.rows].map(row => [value(row, column), row]);
      rows.sort(([a], [b]) => sign * (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? 1 : -1));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
const filter = document.querySelector("#filter");
if (filter) {
  filter.closest("label").hidden = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const named of document.querySelectorAll("[data-sample]"))
      named.hidden = !named.dataset.sample.toLowerCase().includes(wanted);
  });
}
