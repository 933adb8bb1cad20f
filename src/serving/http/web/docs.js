"use strict";
// Swagger UI for this API's document. It loads nothing from other hosts: no validator, no fonts, no analytics.

document.getElementById("back").href = location.origin + location.pathname.replace(/docs\/*$/, "");

SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: location.origin + location.pathname.replace(/docs\/*$/, "openapi.json"),
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  validatorUrl: null,
  queryConfigEnabled: false,
  tryItOutEnabled: true,
});
