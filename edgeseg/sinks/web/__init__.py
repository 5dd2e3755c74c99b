"""A web page with the live overlay: `sink.py` takes results, `server.py` answers browsers, `page.html` is the page."""
