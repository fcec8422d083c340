"""What the web server adds: sessions that end, headers, uploads, lost streams."""
