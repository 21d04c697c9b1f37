// Swagger UI over this service's own document, in the theme of the page; nothing is asked of another host.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dress = () => {
    const theme = root.dataset.theme || (system.matches ? "dark" : "light");
    root.classList.toggle("dark-mode", theme === "dark");
  };
  new MutationObserver(dress).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
  system.addEventListener("change", dress);
  dress();
  const place = document.getElementById("api-docs");
  SwaggerUIBundle({
    url: place.dataset.openapi,
    domNode: place,
    deepLinking: true,
    docExpansion: "none",
    defaultModelsExpandDepth: -1,
    validatorUrl: null,
  });
})();
