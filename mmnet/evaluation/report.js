"use strict";
(() => {
  // Sorting: a column's button sorts its rows, and turns the order when it is pressed again.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
        const numeric = cells.some((cell) => cell.dataset.value !== undefined);
        const before = head.getAttribute("aria-sort");
        const rising = before ? before === "descending" : !numeric;
        const key = (row) => {
          const cell = row.cells[column];
          if (!numeric) return cell.textContent;
          return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
        };
        const sorted = [...table.tBodies[0].rows].sort((one, other) => {
          const [a, b] = [key(one), key(other)];
          if (a === null || b === null) return (a === null) - (b === null);  // unknown ones last
          const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
          return rising ? order : -order;
        });
        table.tBodies[0].append(...sorted);
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      });
    });
  }
  // Light and dark: the system's choice, until the button is pressed.
  const toggle = document.getElementById("theme");
  const dark = () => document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { toggle.textContent = dark() ? "Light theme" : "Dark theme"; };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  label();
})();
