"""Pictures: the operator's overlay, the walked path, velocities, and where the time of an action went.

Modules of this package import matplotlib only inside functions that draw, because nodes import the overlay.
"""
