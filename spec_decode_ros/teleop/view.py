"""The terminal's parts as text: each a function of the robot's status, the palette and the width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

from rich.cells import cell_len
from rich.text import Text

from spec_decode_ros.teleop.palette import BANNER, TOKEN, Palette
from spec_decode_ros.teleop.port import PlanReport
from spec_decode_ros.teleop.robot_status import BannerKind, RobotStatus
from spec_decode_ros.viz.contrast import text_on
from spec_decode_ros.viz.decoded_action import DecodedAction, Piece

_BARS = "▂▄▆█"
_FULL_VX, _FULL_WZ = 0.8, 1.0
_STYLE_OF_OUTCOME = {"recovered": " underline", "unverified": " italic", "draft": " italic"}
"""Not by colour alone: recovered tokens are underlined, unverified ones italic."""


def header(status: RobotStatus, palette: Palette, now: float, width: int) -> Text:
    """Name at the left; link, round trip and acceptance at the right, the least important left out first."""
    link = status.link(now)
    right = Text()
    if link.bars is not None:
        right.append(_BARS[: link.bars], palette.ink)
        right.append(_BARS[link.bars :], palette.line)
        right.append(" ")
    right.append(link.word, f"bold {palette.alarm if link.bars == 0 else palette.ink}")
    if link.rtt_ms is not None:
        right.append(f" · {link.rtt_ms:.0f} ms", palette.ink)
    acceptance = status.number("drafter", "acceptance_rate", now)
    ttva = status.number("drafter", "ttva_ms", now)
    room = width - 2
    extras = []
    if acceptance is not None:
        extras.append(f" · {100 * acceptance:.0f} % accepted")
    if ttva is not None:
        extras.append(f" · action in {ttva:.0f} ms")
    for extra in extras:
        if cell_len(right.plain) + cell_len(extra) <= room:
            right.append(extra, palette.muted)
    name = "spec-decode teleop"
    gap = room - cell_len(right.plain) - len(name)
    if gap < 2:
        return right
    return Text.assemble((name, f"bold {palette.muted}"), " " * gap, right)


def banner(status: RobotStatus, palette: Palette, now: float, width: int, *, high: bool) -> Text:
    """The state of the motion guard on its colour: one line, or three with empty ones around it."""
    state = status.banner(now)
    ground = BANNER.get(state.kind, palette.calm)
    ink = text_on(ground)
    mark = {
        BannerKind.UNVERIFIED: "▒▒ ",
        BannerKind.EMERGENCY: "■ ",
        BannerKind.ALARM: "■ ",
        BannerKind.MOVING: "▶ ",
    }.get(state.kind, "")
    title = f" {mark}{state.title}"
    detail = f"  {state.detail}" if state.detail else ""
    line = Text.assemble((title, "bold"), detail, style=f"{ink} on {ground}", no_wrap=True)
    line.truncate(width, overflow="ellipsis", pad=True)
    if not high:
        return line
    blank = Text(" " * width, f"{ink} on {ground}")
    return Text("\n").join((blank, line, blank.copy()))


def motion(status: RobotStatus, palette: Palette, now: float, width: int) -> Text:
    """Velocities in words, with bars where there is room, and the battery."""
    velocity = status.velocity(now)
    if velocity is None:
        ahead, turn = Text("no velocities", palette.muted), Text("")
    else:
        ahead = _speed(velocity.vx, "m/s", ("ahead", "back"), palette)
        turn = _speed(velocity.wz, "rad/s", ("left", "right"), palette)
    battery = _battery(status.battery(now), palette)
    parts = [ahead, turn]
    used = sum(cell_len(part.plain) for part in parts) + cell_len(battery.plain) + 6
    bar = min(21, (width - used) // 2 - 4)
    if velocity is not None and bar >= 7:
        bar -= 1 - bar % 2
        parts = [
            Text.assemble(_bar(velocity.vx / _FULL_VX, bar, palette), " ", ahead),
            # The left of a bar is the robot's left.
            Text.assemble(_bar(-velocity.wz / _FULL_WZ, bar, palette), " ", turn),
        ]
    left = Text("   ").join(part for part in parts if part.plain)
    gap = max(2, width - 2 - cell_len(left.plain) - cell_len(battery.plain))
    return Text.assemble(left, " " * gap, battery, no_wrap=True, overflow="ellipsis")


def _speed(value: float, unit: str, words: tuple[str, str], palette: Palette) -> Text:
    word = words[0] if value > 0 else words[1] if value < 0 else ""
    weight = f"bold {palette.ink}" if value else palette.muted
    return Text(f"{abs(value):.2f} {unit} {word:<{max(map(len, words))}}", weight)


def _bar(share: float, cells: int, palette: Palette) -> Text:
    half = cells // 2
    filled = min(half, max(1, round(abs(share) * half))) if share else 0
    left = "─" * (half - filled) + "█" * filled if share < 0 else "─" * half
    right = "█" * filled + "─" * (half - filled) if share > 0 else "─" * half
    bar = Text(f"{left}┼{right}", palette.line)
    if filled:
        start = half - filled if share < 0 else half + 1
        bar.stylize(palette.ink, start, start + filled)
    return bar


def _battery(percent: float | None, palette: Palette) -> Text:
    if percent is None:
        return Text("")
    return Text(f"battery {percent:.0f} %", f"bold {palette.alarm}" if percent < 20 else palette.ink)


def answers(status: RobotStatus, palette: Palette, now: float, width: int, height: int) -> Text:
    """The draft in progress, below it the answers, newest first, each token on the colour of its outcome.

    An answer that has expired is shown like the older ones.
    """
    fresh = status.answer(now)
    lines = [_labelled("draft", _draft(status, palette) if fresh else _nothing(palette), palette)]
    if fresh is None:
        lines.append(_labelled("verified", _nothing(palette), palette))
    for answer in list(status.answers)[: max(0, height - len(lines))]:
        new = answer is fresh
        name = ("verified" if answer.state == "verified" else "unverified") if new else ""
        lines.append(_labelled(name, _answer(answer, palette, new=new), palette))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines[:height])


def plan(status: RobotStatus, palette: Palette, now: float, width: int, height: int) -> Text:
    """The sentence understood, its steps, and the tokens of the plan on the colours of their outcomes.

    With one line of height the steps alone, or why there are none. Nothing where there is no planner.
    """
    report, decoded = status.plan, status.plan_text
    if report is None:
        return Text("")
    if status.report("planner", now) is None:
        steps = Text("nothing is heard from the planner; stop still works", palette.alarm)
    elif report.steps:
        steps = _steps(report, palette, width - 11)
    else:
        steps = Text(report.summary, palette.alarm if report.urgent else palette.muted)
    lines = [_labelled("steps", steps, palette)]
    if height > 1:
        lines.insert(0, _labelled("said", Text(report.sentence or "·", palette.ink), palette))
    if height > 2:
        tokens = _nothing(palette) if decoded is None else _answer(decoded, palette, new=True)
        lines.append(_labelled("plan", tokens, palette))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _steps(report: PlanReport, palette: Palette, width: int) -> Text:
    """The steps in their order; those that are done are left out first where there is no room."""
    parts = [_step(text, state, palette) for text, state in report.steps]
    done = sum(state == "done" for _, state in report.steps)
    left_out = 0
    while left_out < done and sum(cell_len(part.plain) + 3 for part in parts[left_out:]) > width:
        left_out += 1
    shown = parts[left_out:]
    if left_out:
        shown.insert(0, Text(f"✓ {left_out} of {len(parts)}", palette.muted))
    return Text(" · ", palette.line).join(shown)


def _step(text: str, state: str, palette: Palette) -> Text:
    if state == "running":
        return Text(f"▶ {text}", f"bold {palette.ink}")
    if state in ("waiting", "done"):
        return Text(text if state == "waiting" else f"✓ {text}", palette.muted)
    return Text(f"✗ {text}: {state}", f"bold {palette.alarm}")


def _nothing(palette: Palette) -> Text:
    return Text("·", palette.line)


def _labelled(name: str, text: Text, palette: Palette) -> Text:
    strong = palette.alarm if name == "unverified" else palette.muted
    return Text.assemble((f"{name:<10} ", strong), text)


def _draft(status: RobotStatus, palette: Palette) -> Text:
    draft = status.draft
    if draft is None or not draft.pieces:
        return _nothing(palette)
    return Text(" ").join(
        Text(piece.text, palette.ink if piece.outcome == "committed" else f"italic {palette.muted}")
        for piece in draft.words
    )


def _answer(answer: DecodedAction, palette: Palette, *, new: bool) -> Text:
    if not answer.pieces:
        return Text(answer.problem or "·", palette.alarm)
    line = Text(" ").join(_token(piece, palette, new=new) for piece in answer.words)
    if answer.problem:
        line.append(f" {answer.problem}", palette.alarm)
    return line


def _token(piece: Piece, palette: Palette, *, new: bool) -> Text:
    """The newest answer's tokens are on the colour of their outcome, older ones are muted."""
    ground = TOKEN.get(piece.outcome)
    style = _STYLE_OF_OUTCOME.get(piece.outcome, "")
    if ground is None:
        return Text(piece.text, (palette.ink if new else palette.muted) + style)
    if new:
        return Text(piece.text, f"bold {text_on(ground)} on {ground}{style}")
    return Text(piece.text, palette.muted + style)


def legend(palette: Palette, width: int) -> Text:
    """What the colours of the tokens mean."""
    meanings = (
        ("accepted", "drafted here, accepted by the cloud"),
        ("recovered", "recovered"),
        ("bonus", "written by the cloud"),
        ("unverified", "unverified"),
    )
    short = sum(len(outcome) + 3 for outcome, _ in meanings) + 11 + sum(len(m) for _, m in meanings) > width
    line = Text(" " * 11)
    for outcome, meaning in meanings:
        color = TOKEN[outcome]
        line.append(" ", f"on {color}")
        line.append(f" {outcome if short else meaning}  ", palette.muted)
    line.truncate(width, overflow="ellipsis")
    return line


def log(status: RobotStatus, palette: Palette, width: int, height: int, clock: Sequence[str]) -> Text:
    """The last lines of the log, newest at the bottom; ``clock`` has the time of day of every line of the log."""
    names = {"you": "you", "robot": "robot", "note": "", "alarm": "!"}
    styles = {
        "you": f"bold {palette.ink}",
        "robot": palette.ink,
        "note": palette.muted,
        "alarm": f"bold {palette.alarm}",
    }
    rows: list[Text] = []
    shown = list(zip(status.log, clock, strict=True))[-height:] if height > 0 else []
    for line, time_of_day in shown:
        margin = f"{time_of_day} " if width >= 70 else ""
        margin += f"{names[line.kind]:<6}"
        for part in wrap(line.text, max(8, width - len(margin)), max_lines=3, placeholder="…") or [""]:
            row = Text.assemble((margin, palette.muted), (part, styles[line.kind]))
            row.truncate(width, overflow="ellipsis")
            rows.append(row)
            margin = " " * len(margin)
    return Text("\n").join(rows[-height:] if height > 0 else [])


def options(words: Iterable[str], palette: Palette, width: int) -> Text:
    """How the sentence could go on, as far as there is room; Tab takes the first."""
    line = Text()
    for index, word in enumerate(words):
        gap = " · " if index else ""
        if cell_len(line.plain) + len(gap) + cell_len(word) > width:
            break
        line.append(gap, palette.line)
        line.append(word, palette.ink if index == 0 else palette.muted)
    return line


def footer(keys: Iterable[tuple[str, str]], palette: Palette, width: int) -> Text:
    """Keys and what they do, the most important first, as many as there is room for."""
    line = Text()
    for index, (key, meaning) in enumerate(keys):
        gap = "   " if index else ""
        if cell_len(line.plain) + len(gap) + cell_len(key) + 1 + cell_len(meaning) > width:
            break
        line.append(gap)
        line.append(key, f"bold {palette.ink}")
        line.append(f" {meaning}", palette.muted)
    return line
