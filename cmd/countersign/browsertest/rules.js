// What every page keeps to, whatever it shows. The value is a list of what this one does not.
((width) => {
  const wrong = [];
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
  const name = (e) => `<${e.localName}${e.id && `#${e.id}`}${e.className?.trim && e.className && `.${e.className.trim().replace(/\s+/g, ".")}`}> ${(e.innerText ?? "").replace(/\s+/g, " ").trim().slice(0, 40)}`;
  const labelled = (e) => e.ariaLabel?.trim() || (e.getAttribute("aria-labelledby") ?? "").split(/\s+/).some((id) => document.getElementById(id)?.textContent.trim());

  // Width: the page does not scroll sideways, and nothing sticks out of it.
  if (document.documentElement.scrollWidth > width) wrong.push(`is ${document.documentElement.scrollWidth} px wide`);
  const scrolls = (e) => e && (/auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  for (const e of all("body *")) {
    const box = e.getBoundingClientRect();
    if (box.width > 0 && (box.right > width + 1 || box.left < -1) && !scrolls(e.parentElement)) wrong.push(`sticks out to ${Math.round(box.left)}…${Math.round(box.right)}: ${name(e)}`);
  }

  // Structure.
  if (!document.documentElement.lang) wrong.push("has no lang");
  if (!document.title.trim()) wrong.push("has no title");
  if (!document.querySelector('meta[name="viewport"]')) wrong.push("has no viewport");
  if (all("main").length !== 1) wrong.push(`has ${all("main").length} main`);
  const headings = all("h1, h2, h3, h4, h5, h6").map((e) => Number(e.localName[1]));
  if (headings.filter((level) => level === 1).length !== 1) wrong.push(`has ${headings.filter((level) => level === 1).length} h1`);
  headings.forEach((level, i) => { if (level > (headings[i - 1] ?? 0) + 1) wrong.push(`skips from h${headings[i - 1] ?? 0} to h${level}`); });
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) wrong.push(`has #${id} more than once`);

  // Names: of what can be filled in, pressed or seen only.
  for (const e of all("input:not([type=hidden]), select, textarea")) if (![...e.labels].some((l) => l.textContent.trim()) && !labelled(e)) wrong.push(`has no label: ${name(e)}`);
  for (const e of all("a, button, summary")) if (!e.innerText.trim() && !labelled(e)) wrong.push(`says nothing: ${e.outerHTML.slice(0, 80)}`);
  for (const e of all("img, svg, iframe")) if (!e.closest('[aria-hidden="true"]') && !e.hasAttribute("alt") && !e.title && !labelled(e)) wrong.push(`has no name: ${e.outerHTML.slice(0, 80)}`);
  for (const e of all("table")) if (!e.querySelector("th")) wrong.push(`has a table without headings: ${name(e)}`);

  // Size: what is pressed is 24 px at least (WCAG 2.2, 2.5.8), and a line of text need not be.
  for (const e of all("button, .button, summary, select, input:not([type=hidden])")) {
    const box = e.getBoundingClientRect();
    if (box.width < 24 || box.height < 24) wrong.push(`is ${Math.round(box.width)} × ${Math.round(box.height)} px small: ${name(e)}`);
  }

  // Contrast: 4.5 to 1, for large text 3 (WCAG 2.2, 1.4.3).
  const colour = (value) => {
    const [r, g, b, alpha = 1] = value.match(/[\d.]+/g).map(Number);
    return value.startsWith("color(") ? { rgb: [r * 255, g * 255, b * 255], alpha } : { rgb: [r, g, b], alpha };
  };
  const ground = (e) => {
    if (!e) return [255, 255, 255];
    const { rgb, alpha } = colour(getComputedStyle(e).backgroundColor);
    if (alpha === 1) return rgb;
    return ground(e.parentElement).map((under, i) => under * (1 - alpha) + rgb[i] * alpha);
  };
  const luminance = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const pale = new Map();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !shown(e) || e.closest("svg, noscript")) continue;
    const style = getComputedStyle(e);
    const [dark, light] = [luminance(colour(style.color).rgb), luminance(ground(e))].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5)) pale.set(`${style.color} ${ground(e)}`, `has a contrast of ${ratio.toFixed(2)}: ${name(e)}`);
  }
  return wrong.concat(...pale.values());
})
