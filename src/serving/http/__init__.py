"""What reaches the function by HTTP: events, requests, answers, the API's document and the pages."""
