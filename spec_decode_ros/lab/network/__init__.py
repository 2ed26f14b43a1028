"""Network emulation in user space.

link: an emulated link, as a thread or a process. link_profile: its delay, bandwidth, jitter, loss and outages.
message_faults: faults of single messages. probe: measures a link from outside.
"""
