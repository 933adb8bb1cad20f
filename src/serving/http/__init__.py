"""HTTP: events, requests, routes, answers, the API's document and the pages."""
