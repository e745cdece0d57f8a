// The pages work without this script. With it, times are in the reader's zone, usernames copy at a
// press, one-time links need no press, and the console says when its numbers are old.
(() => {
  "use strict";

  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const format = (at, date) => {
    const now = new Date();
    const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    if (date) return new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" }).format(at);
    if (at.toDateString() !== now.toDateString()) Object.assign(options, { day: "numeric", month: "short" });
    if (at.getFullYear() !== now.getFullYear()) options.year = "numeric";
    return new Intl.DateTimeFormat("en-GB", options).format(at);
  };
  const localize = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      time.title = full.format(at);
      time.textContent = format(at, "date" in time.dataset);
    }
  };
  localize(document);

  // What comes in is made local before it is compared with what is there, so that nothing flickers.
  document.addEventListener("htmx:before:swap", (event) => {
    for (const task of event.detail.tasks) localize(task.fragment);
  });

  document.addEventListener("htmx:config:request", (event) => {
    const { sourceEvent, request } = event.detail.ctx;
    if (sourceEvent.type === "every" && document.hidden) event.preventDefault();
    for (const [name, value] of [...request.body]) if (value === "") request.body.delete(name);
  });

  // A session that has ended redirects to the sign-in page: that is a page, not a part of this one.
  document.addEventListener("htmx:before:response", (event) => {
    const { raw } = event.detail.ctx.response;
    if (!raw.redirected) return;
    event.preventDefault();
    location.assign(raw.url);
  });

  const lost = (is) => document.querySelectorAll("[data-lost]").forEach((e) => e.toggleAttribute("hidden", !is));
  document.addEventListener("htmx:error", () => lost(true));
  document.addEventListener("htmx:after:request", (event) => lost(event.detail.ctx.response.status >= 400));

  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("[data-copy]")) {
      const before = button.innerHTML;
      button.hidden = false;
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(button.dataset.copy);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(button.previousElementSibling);
        }
        setTimeout(() => { button.innerHTML = before; }, 2000);
      });
    }
  }

  document.querySelector("form[data-submit]")?.requestSubmit();
})();
