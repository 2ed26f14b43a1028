"""Decoding methods side by side: in virtual time, over emulated links, and against other systems."""
