# A few generic rules for all papers: data, train, measure (a part), gather, figure, judge, claims.
# Which runs, measurements and figures there are comes from paper_configs/ alone (replication/pipeline/dag.py reads them).
import sys

from snakemake.logging import logger

from replication.errors import ReplicationError
from replication.pipeline import dag, judging, request, terminal

# the interpreter that runs Snakemake and the package of this checkout, whatever is installed or first in PATH
shell.prefix(f'replicate() {{{{ "{sys.executable}" -m replication "$@"; }}}}; ')  # it is formatted once more

try:
    REQUEST = request.read(config)
    judging.check_locked()
    PAPERS = list(dict.fromkeys(paper for paper, _, _ in dag.figures()))
except ReplicationError as error:
    sys.exit(f"Error: {error}")

terminal.list_targets_first(workflow, PAPERS)
if workflow.is_main_process:  # and not a job of its own on a cluster
    terminal.attach(logger, REQUEST, workflow, answers=["claims", "claims_ci", *PAPERS])


def last_line():
    """Where the results of this call lie."""
    return request.last_line(REQUEST, request.plan_of(REQUEST, workflow.dag_settings.targets))


def figure_files(paper, figure, *endings):
    scale = dag.scale_of(paper, figure, REQUEST.scale)
    return [f"results/{scale}/{paper}/figures/{figure}{ending}" for ending in endings]


def figures_of(targets, *endings):
    """Files beside the pictures of the figures that a target needs."""
    figures = request.figures_asked_for([targets], REQUEST.scale)
    return [path for paper, figure in figures for path in figure_files(paper, figure, *endings)]


def data_of(wildcards):
    """The prepared data sets of a run, or of the runs that a part of a measurement reads, each once."""
    runs = [wildcards.run] if wildcards.get("run") else [run for run, _ in sources_of(wildcards)]
    names = [dag.run_of(wildcards.scale, wildcards.paper, run).dataset.name for run in runs]
    return [f"results/data/{name}.safetensors" for name in dict.fromkeys(names)]


def sources_of(wildcards):
    return dag.sources(wildcards.scale, wildcards.paper, wildcards.measurement, int(wildcards.seed), int(wildcards.part))


def run_folders(wildcards):
    folder = f"results/{wildcards.scale}/{wildcards.paper}/runs"
    return [f"{folder}/{run}/seed{seed}" for run, seed in sources_of(wildcards)]


def files_of_runs(name):
    return lambda wildcards: [f"{folder}/{name}" for folder in run_folders(wildcards)]


def figure_labels(wildcards):
    """How the report lists a figure."""
    reproduces = dag.figure_of(wildcards.scale, wildcards.paper, wildcards.figure).reproduces
    return {"reproduces": reproduces, "target": f"figure_{wildcards.figure}", "scale": wildcards.scale}


report: "figures/report.rst"


wildcard_constraints:
    scale="smoke|reduced|full|recorded",
    paper="[a-z0-9_]+",
    run="[a-z0-9_]+",
    measurement="[a-z0-9_]+",
    figure="[a-z0-9_]+",
    seed="[0-9]+",
    part="[0-9]+",


onsuccess:
    print(last_line(), file=sys.stderr)


onerror:
    print(last_line(), file=sys.stderr)


# they print to the terminal
localrules:
    figures,
    claims,
    claims_ci,


rule all:
    """Every figure and the page of their claims, which `snakemake --report report.zip` packs."""
    default_target: True
    input:
        figures_of("all", ".png", ".verdicts.json"),
        f"results/{REQUEST.scale}/claims.html",


rule figures:
    """Every figure of the four papers."""
    input:
        figures_of("figures", ".png", ".verdicts.json"),


rule claims:
    """The table of claims: published, measured, interval, verdict; fails where a claim required at this scale is contradicted."""
    input:
        verdicts=figures_of("claims", ".verdicts.json"),
        page=f"results/{REQUEST.scale}/claims.html",
    shell:
        "replicate claims {input.verdicts}"


rule claims_page:
    """Every claim drawn on one page that needs no network."""
    input:
        verdicts=figures_of("claims", ".verdicts.json"),
        template="replication/claims/page.html.jinja",
    output:
        report(
            f"results/{REQUEST.scale}/claims.html",
            category="Claims",
            labels={"claims": "every claim", "scale": REQUEST.scale},
        ),
    log:
        f"results/logs/{REQUEST.scale}/claims_page.log",
    params:
        depends=dag.page_depends(),
    shell:
        "replicate claims-page --out {output} {input.verdicts} > {log} 2>&1"


rule claims_ci:
    """The claims that continuous integration checks."""
    input:
        figures_of("claims_ci", ".verdicts.json"),
    shell:
        "replicate claims --ci {input}"


for paper in PAPERS:

    rule:
        name:
            paper
        input:
            pictures=figures_of(paper, ".png"),
            verdicts=figures_of(paper, ".verdicts.json"),
        localrule: True
        shell:
            "replicate claims {input.verdicts}"

    title = dag.paper_of("full", paper).paper.title
    workflow.get_rule(paper).docstring = f"Every figure and the table of claims of one paper. {title}"


for paper, figure, entry in dag.figures():

    rule:
        name:
            f"figure_{figure}"
        input:
            quantities=figure_files(paper, figure, ".quantities.csv"),
            verdicts=figure_files(paper, figure, ".verdicts.json"),
            picture=figure_files(paper, figure, ".png"),
        localrule: True
        shell:
            "replicate show --quantities-file {input.quantities} --verdicts-file {input.verdicts}"

    # a docstring inside the rule cannot be a variable
    workflow.get_rule(f"figure_{figure}").docstring = f"{entry.reproduces}: {entry.caption}"


rule data:
    """A data set as one checked file (found, or downloaded)."""
    output:
        data="results/data/{dataset}.safetensors",
        provenance="results/data/{dataset}.safetensors.provenance.json",
    log:
        "results/logs/data/{dataset}.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        depends=dag.data_depends(),
    shell:
        "replicate data {wildcards.dataset} --out {output.data} > {log} 2>&1"


rule train:
    """One seed of a training run; killed and started again, it continues and ends with the same bits."""
    input:
        data=data_of,
    output:
        provenance="results/{scale}/{paper}/runs/{run}/seed{seed}/provenance.json",
        trajectory="results/{scale}/{paper}/runs/{run}/seed{seed}/trajectory.npy",
        weights="results/{scale}/{paper}/runs/{run}/seed{seed}/weights.safetensors",
        tables=directory("results/{scale}/{paper}/runs/{run}/seed{seed}/tables"),
    log:
        "results/logs/{scale}/{paper}/train/{run}.{seed}.log",
    benchmark:
        "results/benchmarks/{scale}/{paper}/train/{run}.{seed}.tsv"
    threads: 1
    priority: lambda wildcards: request.priority(wildcards.scale, wildcards.paper, wildcards.run)
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=REQUEST.gpu,
    params:
        depends=lambda wildcards: dag.training_depends(wildcards.scale, wildcards.paper, wildcards.run),
    shell:
        "replicate train {wildcards.paper} {wildcards.run} --scale {wildcards.scale} --seed {wildcards.seed}"
        " --data-file {input.data} --folder $(dirname {output.provenance}) --threads {threads} > {log} 2>&1"


rule measure:
    """One part of one seed of a measurement."""
    input:
        data=data_of,
        provenances=files_of_runs("provenance.json"),
        trajectories=files_of_runs("trajectory.npy"),
    output:
        part="results/{scale}/{paper}/parts/{measurement}/seed{seed}/{part}.npz",
        provenance="results/{scale}/{paper}/parts/{measurement}/seed{seed}/{part}.npz.provenance.json",
    log:
        "results/logs/{scale}/{paper}/measure/{measurement}.{seed}.{part}.log",
    benchmark:
        "results/benchmarks/{scale}/{paper}/measure/{measurement}.{seed}.{part}.tsv"
    threads: 1
    priority: lambda wildcards: request.priority(wildcards.scale, wildcards.paper, wildcards.measurement)
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=REQUEST.gpu,
    params:
        depends=lambda wildcards: dag.measuring_depends(wildcards.scale, wildcards.paper, wildcards.measurement),
        folders=run_folders,
    shell:
        "replicate measure {wildcards.paper} {wildcards.measurement} --scale {wildcards.scale} --seed {wildcards.seed}"
        " --part {wildcards.part} --run-folders {params.folders} --data-files {input.data} --out {output.part}"
        " --threads {threads} > {log} 2>&1"


rule gather:
    """The parts of a measurement as tidy tables, a folder for each seed."""
    input:
        lambda wildcards: dag.part_files(wildcards.scale, wildcards.paper, wildcards.measurement, REQUEST.seeds),
    output:
        directory("results/{scale}/{paper}/tables/{measurement}"),
    log:
        "results/logs/{scale}/{paper}/gather/{measurement}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        depends=lambda wildcards: dag.measuring_depends(wildcards.scale, wildcards.paper, wildcards.measurement),
    shell:
        "replicate gather {wildcards.paper} {wildcards.measurement} --scale {wildcards.scale} --folder {output} {input} > {log} 2>&1"


rule figure:
    """A figure and its quantities, from tables alone."""
    input:
        lambda wildcards: dag.table_folders(wildcards.scale, wildcards.paper, wildcards.figure, REQUEST.seeds),
    output:
        report(
            "results/{scale}/{paper}/figures/{figure}.png",
            caption="figures/caption.rst",
            category=lambda wildcards: dag.paper_of(wildcards.scale, wildcards.paper).paper.title.split(":")[0],
            labels=figure_labels,
        ),
        pdf="results/{scale}/{paper}/figures/{figure}.pdf",
        svg="results/{scale}/{paper}/figures/{figure}.svg",
        quantities="results/{scale}/{paper}/figures/{figure}.quantities.csv",
        provenance="results/{scale}/{paper}/figures/{figure}.provenance.json",
    log:
        "results/logs/{scale}/{paper}/figure/{figure}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        depends=lambda wildcards: dag.drawing_depends(wildcards.scale, wildcards.paper, wildcards.figure),
        caption=lambda wildcards: dag.figure_of(wildcards.scale, wildcards.paper, wildcards.figure).caption,
    shell:
        "replicate figure {wildcards.paper} {wildcards.figure} --scale {wildcards.scale} --folder $(dirname {output.pdf})"
        " {input} > {log} 2>&1"


rule judge:
    """The verdicts on a figure's claims; writing them succeeds whatever they say."""
    input:
        quantities="results/{scale}/{paper}/figures/{figure}.quantities.csv",
        provenance="results/{scale}/{paper}/figures/{figure}.provenance.json",
    output:
        "results/{scale}/{paper}/figures/{figure}.verdicts.json",
    log:
        "results/logs/{scale}/{paper}/judge/{figure}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        depends=lambda wildcards: dag.judging_depends(wildcards.scale, wildcards.paper, wildcards.figure),
    shell:
        "replicate judge {wildcards.paper} {wildcards.figure} --scale {wildcards.scale} --quantities-file {input.quantities}"
        " --out {output} > {log} 2>&1"
