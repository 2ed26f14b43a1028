"""How many GPUs a fleet needs: actions of the state machines in virtual time, queued for servers that they share."""
