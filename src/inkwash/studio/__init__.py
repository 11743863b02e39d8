"""The studio: a server with a durable queue, three doors for programs, and a page for people."""
