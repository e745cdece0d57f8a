// What every page keeps to, whatever it shows, beside what axe-core asks. The value is a list of what this one does not.
((width) => {
  const wrong = [];
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
  const name = (e) => `<${e.localName}${e.id && `#${e.id}`}${e.className?.trim && e.className && `.${e.className.trim().replace(/\s+/g, ".")}`}> ${(e.innerText ?? "").replace(/\s+/g, " ").trim().slice(0, 40)}`;

  // Width: the page does not scroll sideways, and nothing sticks out of it.
  if (document.documentElement.scrollWidth > width) wrong.push(`is ${document.documentElement.scrollWidth} px wide`);
  const scrolls = (e) => e && (/auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  for (const e of all("body *")) {
    const box = e.getBoundingClientRect();
    if (box.width > 0 && (box.right > width + 1 || box.left < -1) && !scrolls(e.parentElement)) wrong.push(`sticks out to ${Math.round(box.left)}…${Math.round(box.right)}: ${name(e)}`);
  }

  // Structure.
  if (!document.querySelector('meta[name="viewport"]')) wrong.push("has no viewport");
  if (all("main").length !== 1) wrong.push(`has ${all("main").length} main`);
  const headings = all("h1, h2, h3, h4, h5, h6").map((e) => Number(e.localName[1]));
  if (headings.filter((level) => level === 1).length !== 1) wrong.push(`has ${headings.filter((level) => level === 1).length} h1`);
  headings.forEach((level, i) => { if (level > (headings[i - 1] ?? 0) + 1) wrong.push(`skips from h${headings[i - 1] ?? 0} to h${level}`); });
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) wrong.push(`has #${id} more than once`);
  for (const e of all("table")) if (!e.querySelector("th")) wrong.push(`has a table without headings: ${name(e)}`);

  // Size: what is pressed is 24 px at least (WCAG 2.2, 2.5.8), and a line of text need not be.
  for (const e of all("button, .button, summary, select, input:not([type=hidden])")) {
    const box = e.getBoundingClientRect();
    if (box.width < 24 || box.height < 24) wrong.push(`is ${Math.round(box.width)} × ${Math.round(box.height)} px small: ${name(e)}`);
  }
  return wrong;
})
