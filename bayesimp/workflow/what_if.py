"""The analyses of a run again: with values missing not at random, and under other priors."""

from __future__ import annotations

from functools import partial

import pandas as pd

from bayesimp.errors import BayesimpError
from bayesimp.workflow.plan_mnar import run_mnar, tipping_points
from bayesimp.workflow.plan_sensitivity import run_sensitivity, sensitivity_table, sensitivity_words
from bayesimp.workflow.running import Running

__all__ = ["not_at_random", "under_priors"]


def not_at_random(this: Running) -> bool:
    """Run the analyses with shifted imputed values; returns False if that is not possible, which must not stop other
    results."""
    plan, folder = this.ready.plan, this.folder
    assert plan.mnar is not None
    try:
        with this.step("not at random", "Imputing values missing not at random"):
            result = run_mnar(plan, this.ready.model)
            tipping, words = tipping_points(result, plan.mnar.threshold)
    except BayesimpError as error:
        this.note(f"Values missing not at random: {error}")
        return False
    for name, table in (("mnar", result.table), ("mnar_imputed", result.imputed), ("mnar_tipping", tipping),
                        ("mnar_events", pd.DataFrame(result.events))):  # fmt: skip
        folder.table(f"{name}.csv", table)
    this.caption("Values missing not at random")
    this.say("\n\n".join([str(result).replace("see .events", "see mnar_events.csv"), *words]))
    if plan.output.figures:
        from bayesimp.plots.mnar import plot_mnar

        for name in result.analyses:
            draw = partial(plot_mnar, result, analysis=name, threshold=plan.mnar.threshold)
            with this.step("figures", f"Drawing mnar_{name}.png"):
                folder.figure(f"mnar_{name}.png", draw)
    return not any(event.kind == "interrupted" for _, event in result.log)


def under_priors(this: Running) -> bool:
    """Run the analyses of [sensitivity] under each prior; returns False if one of them is not possible."""
    plan, folder = this.ready.plan, this.folder
    assert plan.sensitivity is not None
    results, complete = {}, True
    for analysis in plan.analyses:
        if analysis.name not in plan.sensitivity.analyses:
            continue
        try:
            with this.step("sensitivity", f"Imputing under several priors, for '{analysis.name}'"):
                result = run_sensitivity(plan, this.ready.model, analysis)
        except BayesimpError as error:
            this.note(f"Sensitivity of '{analysis.name}' to the prior: {error}")
            complete = False
            continue
        results[analysis.name] = result
        if any(event.kind == "interrupted" for imp in result.imputations.values() for event in imp.log):
            complete = False
            break
    if not results:
        return False
    first = next(iter(results.values()))
    folder.table("sensitivity.csv", sensitivity_table(results, "table"))
    folder.table("sensitivity_model.csv", pd.DataFrame(first.model))
    folder.table("sensitivity_events.csv", sensitivity_table(results, "events"))
    words = sensitivity_words(results)
    folder.text("sensitivity.txt", "\n".join(words) + "\n")
    this.caption("Sensitivity to the prior")
    this.say("\n".join(words))
    if plan.output.figures:
        drawings = {f"sensitivity_{name}.png": result.plot for name, result in results.items()}
        for name, draw in {**drawings, "sensitivity_components.png": first.plot_components}.items():
            with this.step("figures", f"Drawing {name}"):
                folder.figure(name, draw)
    return complete
