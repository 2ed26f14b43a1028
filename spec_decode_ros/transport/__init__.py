"""ZeroMQ between robot and cloud: wire format, client, server, keys."""
