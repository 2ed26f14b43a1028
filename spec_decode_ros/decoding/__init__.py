"""The decoding methods as two state machines and pure functions: no socket, clock, thread or model in here.

`messages` what edge and cloud say · `methods` the choices that make a method · `edge`, `cloud` the machines ·
`commands` what they ask of their driver · `request` one action · `acceptance` which draft tokens stand ·
`sampling` how a token is chosen from logits.
"""
