"""What work costs a robot and a server in virtual time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """What work costs, in seconds. A pass over a draft of k tokens takes `step + k * per_token`.

    `own_prefill` and `own_token` are those of the server's own draft model. `compute_token` is what the arithmetic of a
    token takes: a pass takes `step`, in which the weights are read, as long as all its arithmetic is done in that time.
    """

    draft_prefill: float = 0.005
    draft_token: float = 0.0012
    prepare: float = 0.002
    prefill: float = 0.011
    step: float = 0.0025
    per_token: float = 0.00011
    own_prefill: float = 0.0
    own_token: float = 0.0012
    compute_token: float = 0.0

    def target_pass(self, first: bool, width: int) -> float:
        """A pass of one action over a draft of so many tokens; the first one reads the prompt too."""
        return self.shared_pass(width + 1, float(first))

    def shared_pass(self, tokens: int, prompts: float) -> float:
        """A pass over so many tokens of answers, of all actions in it together, and so many prompts or parts of them."""
        arithmetic = prompts * self.prefill + max(0.0, tokens - prompts) * self.compute_token
        return max(self.step, arithmetic) + max(0, tokens - 1) * self.per_token
