"""The published user tower: in this process, on a server, under another fingerprint."""
