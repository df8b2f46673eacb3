"""The page of ``bayesimp explore plan.toml``: a marimo app that shows what `bayesimp.workflow.explore` computes.

Cells are functions; marimo ignores their names, reads their bodies, and runs a cell again when a name that it uses has
changed.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="bayesimp explore")

with app.setup:
    from typing import Any


@app.cell
def _start() -> Any:
    import base64
    import io
    import textwrap
    from html import escape

    import marimo as mo
    import matplotlib
    from marimo import md

    matplotlib.use("agg")
    from bayesimp.errors import BayesimpError
    from bayesimp.plots.imputed import plot_imputed
    from bayesimp.plots.pooled import plot_pooled
    from bayesimp.workflow import explore
    from bayesimp.workflow import explore_words as words

    return (
        BayesimpError,
        base64,
        escape,
        explore,
        io,
        matplotlib,
        md,
        mo,
        plot_imputed,
        plot_pooled,
        textwrap,
        words,
    )


@app.cell
def _open(explore: Any, mo: Any) -> Any:
    with mo.status.spinner(
        "Reading the plan and imputing as planned (a new machine compiles first, once) ..."
    ):
        exploration = explore.open_plan(mo.cli_args().get("plan"))
        usual = exploration.answer(exploration.planned).seconds
        if usual < 10:  # the time may have been spent compiling
            usual = exploration.seconds()
    at_release = usual > 0.5  # seconds: slower answers are computed when the slider is released
    return at_release, exploration, usual


@app.cell
def _reset(mo: Any) -> Any:
    reset = mo.ui.button(label="Back to the plan")
    return (reset,)


@app.cell
def _family(exploration: Any, mo: Any, reset: Any) -> Any:
    _ = reset.value
    family = mo.ui.dropdown(list(exploration.families), exploration.planned.family, label="family")
    analysis = mo.ui.dropdown(list(exploration.analyses), exploration.analyses[0], label="analysis")
    return analysis, family


@app.cell
def _sliders(
    at_release: Any, exploration: Any, explore: Any, family: Any, mo: Any, reset: Any, textwrap: Any, words: Any,
) -> Any:  # fmt: skip
    _ = reset.value
    _fixed = family.value == explore.PLANNED

    def _slider(steps: Any, value: float, label: str) -> Any:
        steps = sorted({*steps, value})
        return mo.ui.slider(steps=steps, value=value, label=label, show_value=True, include_input=False,
                            debounce=at_release, disabled=_fixed, full_width=True)  # fmt: skip

    nu = _slider((1, 2, 3, 4, 6, 8, 12, 20, 30), exploration.planned.nu, "degrees of freedom")
    scale = _slider((0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5), exploration.planned.scale,
                    "scale, in standard deviations of each variable")  # fmt: skip
    _movable = [each for each in exploration.deltas if not each.refused]
    deltas = mo.ui.dictionary({
        each.name: mo.ui.slider(
            steps=words.numbers(each), value=each.planned, label=textwrap.fill(each.name, 40),
            show_value=True, debounce=at_release, full_width=True,
        )
        for each in _movable
    })  # fmt: skip
    return deltas, nu, scale


@app.cell
def _controls(
    analysis: Any, at_release: Any, deltas: Any, exploration: Any, family: Any, md: Any, mo: Any, nu: Any, reset: Any,
    scale: Any, usual: Any, words: Any,
) -> Any:  # fmt: skip
    _refused = [each for each in exploration.deltas if each.refused]
    _units = {each.name: words.unit(each) for each in exploration.deltas}
    _each = [
        mo.vstack([deltas.elements[name], md(f"<small>{_units[name]}</small>")], gap=0)
        for name in deltas.elements
    ]
    _first, _others = _each[:6], _each[6:]
    _parts = [
        md("#### Prior of the between-cluster covariance"), family, nu, scale,
        md("#### Delta: what is added to imputed values"), *_first,
    ]  # fmt: skip
    if _others:
        _parts.append(mo.accordion({f"{len(_others)} more variables": mo.vstack(_others)}))
    if _refused:
        _text = "\n".join(f"- `{each.name}`: {each.refused}" for each in _refused)
        _parts.append(mo.accordion({f"{len(_refused)} that cannot be moved": md(_text)}))
    _when = "at the release of a slider" if at_release else "while a slider moves"
    _parts += [
        md("#### Analysis") if len(exploration.analyses) > 1 else md(""),
        analysis if len(exploration.analyses) > 1 else md(""),
        reset,
        md(f"<small>{exploration.ready.plan.impute.m} imputations take about {usual:.2g} s; they are drawn again "
           f"{_when}, with the seed of the plan.</small>"),
    ]  # fmt: skip
    controls = mo.vstack(_parts, gap=0.6)
    return (controls,)


@app.cell
def _compute(
    BayesimpError: Any, analysis: Any, deltas: Any, exploration: Any, explore: Any, family: Any, mo: Any, nu: Any,
    scale: Any, usual: Any,
) -> Any:  # fmt: skip
    answer, problem = None, ""
    _asked = explore.Assumption(family.value, nu.value, scale.value, dict(deltas.value))
    with mo.status.spinner(f"Imputing, analysing, pooling: about {usual:.2g} s ...", remove_on_exit=True):
        try:
            answer = exploration.answer(_asked, analysis.value)
        except BayesimpError as _error:
            problem = str(_error)
    return answer, problem


@app.cell
def _which(exploration: Any, mo: Any) -> Any:
    _names = [each.name for each in exploration.deltas]
    variable = mo.ui.dropdown(_names, _names[0], label="variable") if _names else None
    by_cluster = mo.ui.checkbox(label="by cluster")
    return by_cluster, variable


@app.cell
def _pictures(
    answer: Any, base64: Any, by_cluster: Any, escape: Any, io: Any, matplotlib: Any, md: Any, mo: Any, plot_imputed: Any,
    plot_pooled: Any, variable: Any, words: Any,
) -> Any:  # fmt: skip
    def _image(figure: Any, alt: str) -> Any:
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=110)
        matplotlib.pyplot.close(figure)
        text = base64.b64encode(
            out.getvalue()
        ).decode()  # embedded in the page: marimo deletes its files when a cell runs again
        return mo.Html(
            f'<img src="data:image/png;base64,{text}" alt="{escape(alt)}" style="max-width: 100%;">'
        )

    forest = distribution = md("")
    if answer is not None:
        forest = _image(plot_pooled(words.forest(answer)), "Pooled estimates as planned and as shown")
        if variable is not None:
            distribution = _image(
                plot_imputed(answer.imputations, [variable.value], by_cluster=by_cluster.value),
                f"Observed and imputed values of {variable.value}",
            )
    return distribution, forest


@app.cell
def _page(
    answer: Any, by_cluster: Any, controls: Any, distribution: Any, exploration: Any, forest: Any, md: Any, mo: Any,
    problem: Any, variable: Any, words: Any,
) -> Any:  # fmt: skip
    _plan = exploration.ready.plan
    _head = md(f"# {_plan.title or _plan.path.name}\n\n{words.heading(exploration, answer)}")
    if answer is None:
        _shown = [mo.callout(mo.Html(words.block(problem)), kind="danger")]
    else:
        _events = words.remarks(answer)
        _choice = [by_cluster] if variable is None else [variable, by_cluster]
        _shown = [
            mo.Html(words.verdict_html(exploration, answer)),
            mo.Html(words.table_html(answer)),
            mo.hstack([
                forest, mo.vstack([mo.hstack(_choice, justify="start"), distribution]),
            ], widths=[1, 1], wrap=True, align="start"),
            mo.accordion({
                "Plan that gives what is shown (TOML)": mo.ui.code_editor(
                    exploration.plan(answer), language="toml", disabled=True),
                f"Events and warnings: {len(_events)}": mo.Html(words.block("\n\n".join(_events) or "none")),
                "Imputation model": mo.Html(words.block(repr(answer.model))),
            }, multiple=True),
        ]  # fmt: skip
    mo.vstack([_head, mo.hstack([controls, mo.vstack(_shown, gap=1)], widths=[1, 3], gap=2, align="start")])


if __name__ == "__main__":
    app.run()
