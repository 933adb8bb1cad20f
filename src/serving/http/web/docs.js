"use strict";
// Swagger UI on this API's own document, with nothing from elsewhere: no validator, no fonts, no analytics.

SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: location.origin + location.pathname.replace(/docs\/*$/, "openapi.json"),
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  validatorUrl: null,
  queryConfigEnabled: false,
  tryItOutEnabled: true,
});
