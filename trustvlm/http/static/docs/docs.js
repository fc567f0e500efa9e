// The HTTP API in Swagger UI, from the document of this service; it asks nothing of other sites.

const root = document.documentElement;
const page = document.getElementById("api");

/** Swagger UI has dark colours of its own; theme.js says which ones are wanted. */
const darken = () => root.classList.toggle("dark-mode", root.dataset.theme === "dark");
new MutationObserver(darken).observe(root, { attributeFilter: ["data-theme"] });
darken();

/** What it leaves out for those who hear the page: its headings skip the level below the title, its fields have no names. */
const describe = () => {
  for (const heading of page.querySelectorAll("h3, h4, h5")) heading.setAttribute("aria-level", heading.tagName[1] - 1);
  for (const row of page.querySelectorAll("tr[data-param-name]")) {
    for (const field of row.querySelectorAll("input, select, textarea")) field.setAttribute("aria-label", row.dataset.paramName);
  }
};
new MutationObserver(describe).observe(page, { childList: true, subtree: true });

/** The path of an operation stands in a button: as the link that it is by default, it would be one control inside another. */
const plainPaths = () => ({
  wrapComponents: { DeepLink: (_, { React }) => ({ text }) => React.createElement("span", null, text) },
});

window.SwaggerUIBundle({
  url: "openapi.json",
  domNode: page,
  plugins: [plainPaths],
  deepLinking: true,
  validatorUrl: null, // would send the document's address to another site
  tryItOutEnabled: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
});
