"""The robot's runtime: drafting, link measurements, one action after the other."""
