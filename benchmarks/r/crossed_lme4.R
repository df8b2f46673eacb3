# Seconds of lme4's fit of a table with several grouping factors (default control), and its REML criterion.
# Rscript crossed_lme4.R table.csv formula
suppressMessages({library(lme4); library(jsonlite)})
args <- commandArgs(TRUE)
d <- read.csv(args[1])
began <- proc.time()[["elapsed"]]
cpu <- sum(proc.time()[1:2])
f <- suppressWarnings(lmer(as.formula(args[2]), d))
cpu <- sum(proc.time()[1:2]) - cpu
cat(toJSON(list(seconds = proc.time()[["elapsed"]] - began, cpu = cpu, criterion = -2 * as.numeric(logLik(f))),
           auto_unbox = TRUE, digits = 10), "\n")
