"""A plan of two analyses of the trial of `tests.mnar_runs`, with sections of the test's own."""

from pathlib import Path

from tests.mnar_runs import trial

PLAN = """
[data]
file = "trial.csv"
cluster = "g"
[model]
formula = "y ~ drug + (1 | g)"
[impute]
m = {m}
seed = 3
chains = 2
tune = 20
draws = 30
{sections}
[[analysis]]
name = "effect"
formula = "y ~ drug + (1 | g)"
[[analysis]]
name = "crude"
formula = "y ~ drug"
complete_case = false
[output]
completed = false
figures = false
"""


def written(folder: Path, m: int, sections: str) -> Path:
    """The plan and its table in a folder."""
    trial().to_csv(folder / "trial.csv", index=False)
    path = folder / "plan.toml"
    path.write_text(PLAN.format(m=m, sections=sections.strip()))
    return path


def change(plan: Path, old: str, new: str) -> str:
    """Replace a part of a plan, which must be there; its path."""
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))
    return str(plan)
