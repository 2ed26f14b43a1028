"""Fleet planning: how many GPUs a fleet needs, by simulated servers that its robots share.

library: traces of actions, from the state machines. queue: one GPU and its robots. site: one region with any number of
GPUs. regions: where the robots are. plan: what a whole fleet needs.
"""
