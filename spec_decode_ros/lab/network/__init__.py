"""Emulated networks in user space, and measuring what a network does to messages."""
