// The colours, chosen before anything is drawn: those of the last choice on this page, or else of the system.

(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const apply = () => { root.dataset.theme = localStorage.getItem("theme") ?? (system.matches ? "dark" : "light"); };
  system.addEventListener("change", apply);
  apply();
})();
