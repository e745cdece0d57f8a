// Shows new mail without a reload. Only the list changes: what is being typed, the scroll position and the focus stay.
(() => {
  const list = document.querySelector("#list");
  let version = "";

  async function look() {
    if (document.hidden) return;
    const answer = await fetch(location.href, { headers: { "If-None-Match": version } }).catch(() => null);
    if (!answer?.ok) return; // 304, or the sink is gone and may come back
    version = answer.headers.get("ETag");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = list.contains(document.activeElement) && document.activeElement.getAttribute("href");
    list.replaceChildren(...page.querySelector("#list").childNodes);
    if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  setInterval(look, 2000);
  document.addEventListener("visibilitychange", look);
})();
