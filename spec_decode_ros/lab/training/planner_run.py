"""Training the planner, with its progress printed."""

from __future__ import annotations

from rich.console import Console

from spec_decode_ros.lab.training.display import make_folders, training_display
from spec_decode_ros.lab.training.planner_recipe import PlannerRun, train_planner


def make_planner(recipe: PlannerRun, console: Console) -> None:
    """Make the pair, or go on making it. Raises SpecDecodeError."""
    make_folders(recipe.out, recipe.work)
    console.print(
        f"{recipe.sentences} sentences for the target, {recipe.plans} plans of its own, {recipe.labels} sentences for the "
        "draft. An interrupted run can be resumed with the same command."
    )
    with training_display(console) as (advance, show):

        def report(part: str, fraction: float, figures: dict[str, float]) -> None:
            advance(part, round(1000 * fraction), 1000)
            if figures:
                show(part, figures)

        train_planner(recipe, report)
    console.print(
        f"The pair is in {recipe.out}; try it with  spec-decode plan --planner {recipe.out / 'pair.yaml'}",
        soft_wrap=True,
    )
