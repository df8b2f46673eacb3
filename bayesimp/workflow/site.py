"""`bayesimp site export | combine | complete`: `bayesimp.federated` from a plan that all sites have.

Exports are entered into the hash-chained log in the folder of the site's table (bayesimp/runlog.py). The difference
between two releases of one table may reveal what neither does alone: a second release that differs is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bayesimp.durable import checksum, one_writer, replacing
from bayesimp.errors import BayesimpError, DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.federated.agreement import Agreement
from bayesimp.federated.complete import CompletedSite, complete_site
from bayesimp.federated.export import export_site
from bayesimp.federated.parameters import read_parameters
from bayesimp.federated.release import SiteRelease, read_release
from bayesimp.federated.run import FederatedRun, combine
from bayesimp.messages import suggestion
from bayesimp.progress import progress_bar
from bayesimp.runlog import BEGUN, LOG, append, read_log
from bayesimp.table.files import read_table, with_types
from bayesimp.workflow.environment import environment
from bayesimp.workflow.folder import Folder, long_csv, long_parquet
from bayesimp.workflow.lock import check_plan
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.plan_records import Plan
from bayesimp.workflow.trail import checked_log, log_end

__all__ = ["agreement_of", "combine_sites", "complete_rows", "export_rows", "site_table"]

EXPORTED = "site export"
PARAMETERS, PLAN = "parameters.json", "plan.toml"


def agreement_of(plan: Plan) -> Agreement:
    """What sites agree on by having the same plan.

    Raises
    ------
    SpecificationError
        The plan asks for what releases do not support: a model other than JointNormal, shifts, reference arms, several
        grouping factors.
    """
    model = plan.model
    why = ""
    if model.type != "JointNormal" or model.formula is None:
        why = f"its model is {model.type}, which needs rows; sites can only impute by JointNormal"
    elif model.shift is not None or model.reference is not None:
        why = "its model has a shift or a reference arm, which sites do not support yet"
    elif plan.data.further_clusters:
        why = "it has several cluster columns; sites impute with one"
    elif plan.impute.sampler == "nuts":
        why = "it asks for the sampler nuts; releases are combined by Gibbs sampling"
    if why:
        raise SpecificationError(f"{plan.path}: not for sites, because {why}.")
    assert model.formula is not None
    levels = {}
    for name, kind in (plan.data.types or {}).items():
        if name in model.formula.variables and not isinstance(kind, str):
            levels[name] = kind if isinstance(kind, tuple) else tuple(map(str, kind.categories))
    return Agreement(model.formula.text, levels, model.priors, checksum(plan.path))


def site_table(plan: Plan, file: Path | None) -> pd.DataFrame:
    """The table of a site, read as the plan says; responses may be absent.

    Raises
    ------
    DataError, SpecificationError
        The file does not exist or cannot be read.
    """
    path = plan.data.file if file is None else file
    if path is None or not path.is_file():
        raise SpecificationError(
            f"{'The plan names no file' if path is None else f'{path}: there is no such file'}; give the table of "
            "this site: --data FILE."
        )
    assert plan.model.formula is not None
    types, responses = dict(plan.data.types or {}), plan.model.formula.responses
    of_responses = {name: types.pop(name) for name in responses if name in types}
    own = plan.data
    frame = read_table(path, types, missing=own.missing, separator=own.separator, decimal=own.decimal)
    frame = with_types(frame, {name: kind for name, kind in of_responses.items() if name in frame}, path.name)
    wanted = plan.data.columns
    if unknown := [name for name in wanted if name not in frame and name not in responses]:
        raise SpecificationError(
            f"{path.name} has no column '{unknown[0]}'. {suggestion(unknown[0], frame.columns)}"
        )
    return frame[[name for name in wanted if name in frame]] if wanted else frame


def export_rows(
    plan_path: Path,
    site: str,
    out: Path,
    file: Path | None,
    minimum: int,
    log: Path | None,
    again: str | None,
) -> SiteRelease:
    """Write the release of a site, and enter it into the log in the folder of its table.

    Raises
    ------
    SpecificationError
        An earlier release of this site differs and no reason is given, or the plan is not the one that was locked.
    """
    plan = read_plan(plan_path, with_table=False)
    check_plan(plan_path)
    agreement = agreement_of(plan)
    source = plan.data.file if file is None else file
    frame = site_table(plan, file)
    release = export_site(frame, agreement, site, minimum=minimum)
    assert source is not None
    place = source.absolute().parent if log is None else log
    known = read_log(place)
    earlier = [] if known is None else [
        line for line in known.require().lines
        if line["action"] == EXPORTED and line.get("site") == release.site and line.get("release") != release.sha256
    ]  # fmt: skip
    if earlier and not (again or "").strip():
        raise SpecificationError(
            f"{place / LOG}: site '{release.site}' released different numbers at {earlier[-1]['time']} (plan SHA-256 "
            f"{earlier[-1]['inputs'].get('plan', '?')[:12]}...). Two different releases of the same people can be "
            "subtracted from each other, and the difference may be one row. Use the earlier file, or give a reason, "
            'which is written to the file: --again "reason".'
        )
    if earlier:
        text = f"different numbers were released {len(earlier):,} times before; reason for releasing again: {again}"
        release = replace(
            release, events=(*release.events, Event("released again", site, text, len(earlier)))
        )
    try:  # logged first, so that nothing leaves unlogged
        append(
            place, EXPORTED, {"plan": checksum(plan_path), "table": checksum(source)}, {}, site=release.site,
            release=release.sha256, minimum=minimum,
        )  # fmt: skip
    except OSError as error:
        raise SpecificationError(
            f"{place} cannot be written ({error.strerror}), but the log of releases is kept there. Give a folder of this "
            "site, always the same one: --log DIR."
        ) from None
    release.save(out)
    return release


def combine_sites(
    plan_path: Path, files: Sequence[Path], out: Path, overwrite: bool, say: Callable[[str], None]
) -> FederatedRun:
    """Sample the parameters given the releases, and write what the sites need, the posterior, and its summary.

    Raises
    ------
    DataError, SpecificationError
        A file, which is named, does not belong to this plan; errors of `bayesimp.federated.combine`.
    """
    plan = read_plan(plan_path, with_table=False)
    agreement = agreement_of(plan)
    releases = []
    for file in files:
        release = read_release(file)
        if differs := agreement.differences(release.agreement):
            raise SpecificationError(f"{file} was not exported with {plan_path}: {'; '.join(differs)}.")
        releases.append(release)
    options = plan.impute.arguments("JointNormal")
    options.pop("sampler", None)
    with one_writer(out) as remark:
        folder = Folder.make(out, overwrite, (plan_path, *files))
        if remark:
            say(f"Note: {remark}")
        folder.path(LOG)
        inputs = {"plan": checksum(plan_path), **{release.site: release.sha256 for release in releases}}
        append(out, BEGUN, inputs, {}, environment=environment())
        with folder.timed("sampling"):
            made = combine(releases, **options)
        folder.text(PLAN, plan.text)
        made.parameters.save(folder.path(PARAMETERS))
        with replacing(folder.path("posterior.nc")) as unfinished:
            unfinished.write_bytes(bytes(made.tree.to_netcdf(engine="h5netcdf")))  # type: ignore[arg-type]
        folder.table("summary.csv", made.summary().parameters.rename_axis("parameter").reset_index())
        folder.table("events.csv", made.events)
        folder.record(
            {"bayesimp": "site combine", "command": "site combine", "status": "combined", **made.attrs}
        )
        log_end(folder, "combined")
    return made


def complete_rows(
    root: Path, site: str, out: Path, file: Path | None, overwrite: bool, say: Callable[[str], None]
) -> CompletedSite:
    """Write the completed tables of a site, and the planned analyses that need only its rows.

    Raises
    ------
    DataError, SpecificationError
        The folder is not as `combine_sites` left it, or the table cannot be used.
    """
    checked_log(root)
    parameters = read_parameters(root / PARAMETERS)
    plan = read_plan(root / PLAN, with_table=False)
    if checksum(root / PLAN) != parameters.agreement.plan:
        raise DataError(
            f"{root / PLAN} is not the plan of {PARAMETERS}; ask the coordinator for both files again."
        )
    source = plan.data.file if file is None else file
    done = complete_site(parameters, site_table(plan, file), site)
    with one_writer(out):
        folder = Folder.make(out, overwrite, () if source is None else (source,))
        write = {"csv": long_csv, "parquet": long_parquet}[plan.output.format]
        with progress_bar() as report:
            write(folder.path(f"completed.{plan.output.format}"), done, report)
        folder.table("events.csv", done.events)
        for analysis in plan.analyses:
            try:
                pooled = done.analyse(str(analysis.formula), **analysis.options(plan.data.cluster)).pool()
                folder.table(f"pooled_{analysis.name}.csv", pooled.to_frame())
            except BayesimpError as error:
                say(f"Note: analysis '{analysis.name}' is not possible with this site's rows: {error}")
        folder.record(
            {"bayesimp": "site complete", "command": "site complete", "status": "completed", **done.attrs}
        )
    return done
