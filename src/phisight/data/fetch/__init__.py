"""Fetch images from web addresses, within limits and past the SSRF guard."""
