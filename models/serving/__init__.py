"""What a visitor, a program or an agent asks for: sessions, the visitor's turn, links, recordings, errors, workers."""
